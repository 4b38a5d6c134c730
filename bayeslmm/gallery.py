"""The gallery: models with their tables that come with the package, each under a name of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.errors import DescriptionError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.glmm import GLMM
    from bayeslmm.lmm import LMM

_PACKAGE = Path(__file__).parent
# A wheel has models/ of the checkout as a folder of the package; see pyproject.toml.
FOLDER = next((place for place in (_PACKAGE / "examples", _PACKAGE.parent / "models") if place.is_dir()), _PACKAGE)


def example_names() -> list[str]:
    """Names of the gallery's models, sorted.

    Examples
    --------
    >>> example_names()[:3]
    ['cake', 'calves', 'cbpp']
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def example_path(name: str | None, what: str = "There is no example {name!r}.") -> Path:
    """Return the description file of an example; where there is none, say which there are.

    Parameters
    ----------
    name : str
    what : str
        How the error begins.

    Examples
    --------
    >>> example_path("heights").name
    'heights.toml'
    """
    names = example_names()
    if name in names:
        return FOLDER / f"{name}.toml"
    begins = 'blm.example takes a name: blm.example("heights").' if name is None else what.format(name=name)
    hint = did_you_mean(name, names) if isinstance(name, str) else ""
    raise DescriptionError(f"{begins}{hint} The examples are {', '.join(names)}.")


def example(name: str | None = None) -> LMM | GLMM:
    """Return a model of the gallery, with its data and its priors.

    Parameters
    ----------
    name : str
        Such as "heights"; without a name, or with a wrong one, the error lists all of them.

    Returns
    -------
    LMM or GLMM
        A GLMM where its description names a family.

    Raises
    ------
    DescriptionError
        There is no example of that name.

    See Also
    --------
    example_data : its table alone, for a formula of your own.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> blm.example("heights")
    LMM('Height ~ 1 + (1 | class:school) + (1 | school)', 18 rows)
    >>> blm.example("cbpp")
    GLMM('cbind(incidence, healthy) ~ 1 + C(period) + (1 | herd)', binomial(link = logit), 56 rows)
    >>> blm.example("sleep")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: There is no example 'sleep'. Did you mean ... The examples are cake, calves, ...
    """
    from bayeslmm.described import model_of
    from bayeslmm.description.model_file import ModelFile

    return model_of(ModelFile.read(example_path(name)))


def example_data(name: str | None = None) -> pd.DataFrame:
    """Return the table of an example, for a formula of your own.

    Parameters
    ----------
    name : str
        As `example` takes it.

    Returns
    -------
    pandas.DataFrame
        A row per observation, the columns as in the file.

    Raises
    ------
    DescriptionError
        There is no example of that name.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> blm.example_data("heights").head(2)
       pupil  class  school    Height
    0      1      1       1  3.551765
    1      2      1       1  3.866224
    """
    from bayeslmm.description.model_file import ModelFile

    return ModelFile.read(example_path(name)).load_data()
