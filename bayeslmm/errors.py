"""What can go wrong, in five kinds; every message says what came, what was expected, what to write."""

import re
from pathlib import Path

# What a terminal obeys instead of showing it: control characters but newline and tab, and marks that turn text round.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Show characters that a terminal would obey, such as those that a label from a data file may have.

    Examples
    --------
    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class BayesLMMError(Exception):
    """Base of every error that bayeslmm raises on purpose."""

    def __init__(self, message: object = ""):
        super().__init__(visible(message) if isinstance(message, str) else message)


class DescriptionError(BayesLMMError, ValueError):
    """The description (formula, keyword arguments or TOML file) cannot be read as a hierarchy."""


class DataError(BayesLMMError, ValueError):
    """The data do not fit the description."""


class PriorError(BayesLMMError, ValueError):
    """A prior is not one, or does not belong to the parameter it was given to."""


class SamplingError(BayesLMMError, RuntimeError):
    """A run of a sampler was interrupted or came back unusable.

    Attributes
    ----------
    clean : xarray.DataTree or None
        The finished draws of the run, if there are any; its attrs have ``partial`` = 1, and what was asked for.
    """

    def __init__(self, message: str, clean=None):
        super().__init__(message)
        self.clean = clean


class SavedError(BayesLMMError):
    """A saved model cannot be written, or what is in its folder is not what was written there."""


class OutOfMemoryError(BayesLMMError, MemoryError):
    """There is less memory than the model needs."""


def did_you_mean(word: str, known) -> str:
    """Return a hint such as ``" Did you mean 'school'?"``, or an empty string.

    Examples
    --------
    >>> did_you_mean("scool", ["class", "school"])
    " Did you mean 'school'?"
    """
    from difflib import get_close_matches

    if len(word) > 100:  # no slip of the pen, and slow to compare
        return ""
    names = [str(name) for name in known]
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def beside(path: Path) -> str:
    """Suggest a file of a similar name in the same folder."""
    folder = path.parent
    try:
        if not folder.is_dir():
            return f": there is no folder {folder}." if len(str(folder)) < 120 else "."
    except (OSError, ValueError):
        return "."
    return "." + did_you_mean(path.name, [file.name for file in folder.iterdir() if file.is_file()])
