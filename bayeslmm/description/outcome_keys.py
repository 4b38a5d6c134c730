"""What a description file says of an outcome that isn't Gaussian: its family, and the columns that make it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bayeslmm.description.toml_text import toml_value
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.families.family import Family
from bayeslmm.formula.parse import columns_of
from bayeslmm.formula.tokens import check_name

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("failures", "trials", "weights")
KEYS = ("family", *COLUMNS, "categories")


@dataclass(frozen=True, kw_only=True)
class OutcomeKeys:
    """The keys of a description file beside those of a Gaussian outcome.

    Attributes
    ----------
    family : Family
    failures : str
        The column of failures, where the response is the column of successes; "" where there is none.
    trials : str
        The column of trials, where the response is the column of successes.
    weights : str
        The column of trials, where the response is the proportion of successes.
    categories : tuple of str
        The texts of the response in their order: of ordered categories from the lowest on, of a binomial the failure
        and the success; empty where they are numbers.

    Examples
    --------
    >>> from bayeslmm.families.binomial import Binomial
    >>> print(OutcomeKeys(family=Binomial(), failures="healthy").to_toml())
    family = "binomial(link = logit)"
    failures = "healthy"
    <BLANKLINE>
    """

    family: Family
    failures: str = ""
    trials: str = ""
    weights: str = ""
    categories: tuple[str, ...] = ()

    def __post_init__(self):
        for column in self.columns:
            check_name(column)
        if not self.categories:
            return
        if self.family.has_intercept and not self.family.takes_trials:
            raise DescriptionError(
                f"categories says the order of a response of texts; a {self.family.name} outcome has numbers. Leave it "
                "out."
            )
        if len(set(self.categories)) < len(self.categories) or "" in self.categories:
            raise DescriptionError(f"categories is {list(self.categories)}; expected different texts, none empty")
        if self.family.takes_trials and (len(self.categories) != 2 or self.columns):
            raise DescriptionError(
                f"categories is {list(self.categories)}; for a binomial they are two, the failure and the success, of "
                "a response that is one or the other in each row"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it uses, beside those of the response."""
        return tuple(name for name in (self.failures, self.trials, self.weights) if name)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``GLMM``."""
        return {"family": self.family} | {key: getattr(self, key) for key in COLUMNS}

    def to_toml(self) -> str:
        """The lines that say it, before those of the hierarchy."""
        said = self.arguments() | {"family": str(self.family), "categories": list(self.categories)}
        return "".join(f"{key} = {toml_value(value)}\n" for key, value in said.items() if value)

    def in_order(self, frame: pd.DataFrame, response: str) -> pd.DataFrame:
        """The table with the response as categories in their order.

        Raises
        ------
        DataError
            For a value that is none of them.
        """
        import pandas as pd

        (name,) = columns_of(response)
        if not self.categories or name not in frame.columns:
            return frame
        column = frame[name]
        others = column[column.notna() & ~column.astype(str).isin(self.categories)]
        if len(others):
            raise DataError(
                f"The response {name!r} has {str(others.iloc[0])!r} in {len(others)} of {len(column)} rows, which is "
                f"none of categories = {list(self.categories)}. Name it there, or correct the table."
            )
        texts = column.astype(str).where(column.notna())
        return frame.assign(**{name: pd.Categorical(texts, categories=self.categories, ordered=True)})
