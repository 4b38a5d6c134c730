"""How the response of another family than the Gaussian is read from the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.data.table import check_size, looks_like_numbers, numbers, say_rows
from bayeslmm.description.outcome_keys import OutcomeKeys
from bayeslmm.design.model_matrix import learn_number
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.families.family import Family, Outcome
from bayeslmm.formula.parse import columns_of


@dataclass(frozen=True, kw_only=True)
class ResponseReader:
    """A family, and which columns its response is made of.

    Attributes
    ----------
    family : Family
    response : str
        A column, or a transform of one; successes beside `failures` or `total`, a proportion beside `trials`.
    failures, total, trials : str
        Columns; "" where there are none.
    """

    family: Family
    response: str
    failures: str = ""
    total: str = ""
    trials: str = ""

    def __post_init__(self):
        ways = {
            "failures": "failures (the second column of cbind) beside the successes",
            "total": "trials beside the successes",
            "trials": f"weights={self.trials!r} beside the proportion of successes",
        }
        given = [name for name in ways if getattr(self, name)]
        if given and not self.family.takes_trials:
            what = {"failures": "cbind(...) on the left", "total": f"trials={self.total!r}"}
            what["trials"] = f"weights={self.trials!r}"
            raise DescriptionError(
                f"{what[given[0]]} counts the trials of a binomial; the family {self.family.name} has none. "
                "Leave it out, or write family='binomial'."
            )
        if len(given) > 1:
            said = " and ".join(ways[name] for name in given)
            raise DescriptionError(f"the number of trials is said twice, by {said}; write one of them")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it uses, beside those of the response."""
        return tuple(name for name in (self.failures, self.total, self.trials) if name)

    @property
    def keys(self) -> OutcomeKeys:
        """The same as a description file says it."""
        return OutcomeKeys(family=self.family, failures=self.failures, trials=self.total, weights=self.trials)

    def read(self, frame: pd.DataFrame) -> Outcome:
        """The response, checked."""
        if not self.family.has_intercept:
            outcome = self._categories(frame)
        else:
            y = _yes_or_no(self.response, frame) if self.family.takes_trials else None
            y = learn_number(self.response, frame, "the response")[1] if y is None else y
            check_size(f"the response {self.response!r}", y)
            outcome = Outcome(name=self.response.strip("`"), y=y, rows=frame.index)
            if self.columns:
                outcome = self._with_trials(outcome, frame)
        self.family.check(outcome)
        return outcome

    def _with_trials(self, outcome: Outcome, frame: pd.DataFrame) -> Outcome:
        (other,) = self.columns
        counts = numbers(frame[other], "the failures" if self.failures else "the trials")
        wrong = (counts < 0) | (counts != np.round(counts))
        if wrong.any():
            raise DataError(
                f"The column {other!r} has {counts[wrong][0]:g} ({say_rows(frame.index, wrong)}); expected whole "
                f"numbers of {'failures' if self.failures else 'trials'}, from 0 on."
            )
        y = outcome.y
        if self.failures:
            return Outcome(name=outcome.name, y=y, rows=outcome.rows, trials=y + counts)
        if self.total:
            return Outcome(name=outcome.name, y=y, rows=outcome.rows, trials=counts)
        outcome.refuse(
            (y < 0) | (y > 1),
            f"with weights={self.trials!r} the response is the proportion of successes, between 0 and 1",
            f"For a number of successes write trials={self.trials!r} instead, or cbind(successes, failures).",
        )
        successes = y * counts
        near = np.round(successes)
        outcome.refuse(
            np.abs(successes - near) > 1e-6 * (1 + counts),
            f"times {self.trials!r} it should be a whole number of successes",
            "Were proportions rounded? Give successes and failures: cbind(successes, failures) ~ ...",
        )
        return Outcome(name=outcome.name, y=near, rows=outcome.rows, trials=counts)

    def _categories(self, frame: pd.DataFrame) -> Outcome:
        used = columns_of(self.response)
        column = frame[used[0]]
        if self.response.strip("`") != used[0]:
            raise DescriptionError(f"ordered categories are a column as it is; got {self.response!r}")
        if isinstance(column.dtype, pd.CategoricalDtype):
            if not column.cat.ordered:
                raise DataError(
                    f"The categories of {used[0]!r} have no order; expected an ordered categorical. "
                    f"Write data[{used[0]!r}] = pd.Categorical(data[{used[0]!r}], categories=[...], ordered=True)."
                )
            labels, codes = [str(one) for one in column.cat.categories], column.cat.codes.to_numpy()
        elif column.dtype.kind in "biuf":
            found, codes = np.unique(column.to_numpy(), return_inverse=True)
            if len(found) > 50:
                raise DataError(
                    f"The response {used[0]!r} has {len(found)} different values; expected a few ordered categories "
                    "(at most 50). Is it a measurement?"
                )
            labels = [f"{one:g}" if column.dtype.kind == "f" else str(one) for one in found]
        else:
            hint = " as numbers" if looks_like_numbers(column) else ""
            raise DataError(
                f"The response {used[0]!r} is text, whose order nobody can know; expected numbers or an ordered "
                f"categorical. Convert it{hint}, or write data[{used[0]!r}] = pd.Categorical(data[{used[0]!r}], "
                "categories=['low', 'middle', 'high'], ordered=True); in a description file, "
                'categories = ["low", "middle", "high"].'
            )
        y = np.asarray(codes, dtype=float)
        return Outcome(name=used[0], y=y, rows=frame.index, categories=tuple(labels))


def _yes_or_no(text: str, frame: pd.DataFrame) -> np.ndarray | None:
    """A column of two categories as zeros and ones, the second one a success; None for anything else."""
    used = columns_of(text)
    column = frame[used[0]]
    if text.strip("`") != used[0]:
        return None
    if not isinstance(column.dtype, pd.CategoricalDtype):
        found = sorted(set(column[column.notna()].tolist()), key=str) if column.dtype.kind not in "biufcM" else []
        if len(found) == 2 and all(isinstance(one, str) for one in found) and not looks_like_numbers(column):
            raise DataError(
                f"The response {used[0]!r} holds the texts {found[0]!r} and {found[1]!r}, and nobody can know which of "
                f"them is a success. Write data[{used[0]!r}] = data[{used[0]!r}] == {found[1]!r}; in a description "
                f'file, categories = ["{found[0]}", "{found[1]}"], the success last.'
            )
        return None
    if len(column.cat.categories) != 2:
        raise DataError(
            f"The response {used[0]!r} has {len(column.cat.categories)} categories; a binomial has two. "
            "For ordered categories write family='cumulative'."
        )
    return column.cat.codes.to_numpy().astype(float)
