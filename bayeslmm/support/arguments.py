"""Checks of plain arguments that several functions take: truths, whole numbers, seeds, paths, lists of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import DescriptionError, did_you_mean

if TYPE_CHECKING:
    import numpy as np


def check_flag(name: str, value: Any) -> bool:
    """Return a truth as a bool; refuse texts and numbers, which Python would take for one.

    Examples
    --------
    >>> check_flag("reml", "no")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: reml='no'; expected True or False, such as reml=True.
    """
    if not _is_truth(value):
        raise DescriptionError(f"{name}={_shown(value)}; expected True or False, such as {name}=True.")
    return bool(value)


def check_whole(name: str, value: Any, least: int, example: int) -> None:
    """Refuse what is no whole number from `least` up.

    Examples
    --------
    >>> check_whole("draws", 2.5, least=1, example=500)
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: draws=2.5; expected a whole number from 1 up, such as draws=500.
    """
    if not isinstance(value, Integral) or _is_truth(value) or value < least:
        raise DescriptionError(
            f"{name}={_shown(value)}; expected a whole number from {least} up, such as {name}={example}."
        )


def check_coverage(name: str, value: Any) -> None:
    """Refuse what is no coverage of an interval, between 0 and 1.

    Examples
    --------
    >>> check_coverage("level", 95)
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: level is 95; a coverage between 0 and 1 was expected, such as 0.95. Did you ...
    """
    number = isinstance(value, Real) and not _is_truth(value)
    if not (number and 0 < value < 1):
        hint = f" Did you mean {value / 100:g}?" if number and 1 < value < 100 else ""
        raise DescriptionError(
            f"{name} is {_shown(value)}; a coverage between 0 and 1 was expected, such as 0.95.{hint}"
        )


def check_seed(value: Any) -> None:
    """Refuse a random_seed that is neither None nor a whole number from 0 up.

    Examples
    --------
    >>> check_seed(None)
    """
    if value is not None:
        check_whole("random_seed", value, least=0, example=1)


def check_centered(value: Any, levels: Sequence[str]) -> dict[str, bool]:
    """Return for every level whether it is centred; refuse names of other levels and what is no truth.

    Examples
    --------
    >>> check_centered({"u2": True}, ["u2", "u3"])
    {'u2': True, 'u3': False}
    """
    remedy = "Write centered=True, or a mapping such as {'u2': True}."
    if not isinstance(value, Mapping):
        if not _is_truth(value):
            raise DescriptionError(f"centered={_shown(value)}; expected True, False or a mapping. {remedy}")
        return dict.fromkeys(levels, bool(value))
    for name, own in value.items():
        if name not in levels:
            raise DescriptionError(
                f"centered names the level {name!r}; the levels are {', '.join(levels) or 'none'}."
                f"{did_you_mean(str(name), levels)} {remedy}"
            )
        if not _is_truth(own):
            raise DescriptionError(f"centered has {_shown(own)} for {name}; expected True or False. {remedy}")
    return {name: bool(value.get(name, False)) for name in levels}


def check_path(value: Any, example: str) -> Path:
    """Return a path; refuse what is no text and no path.

    Examples
    --------
    >>> check_path("models/heights.toml", "").name
    'heights.toml'
    """
    if not isinstance(value, str | PathLike) or "\0" in str(value):
        raise DescriptionError(f"The path is {_shown(value)}; expected a text or a pathlib.Path, such as {example!r}.")
    return Path(value)


def check_list(value: Any, names: Sequence[str], what: str, write: str) -> np.ndarray:
    """Return finite numbers (k,), one per name; `what` is what they are called, `write` what to write instead.

    Examples
    --------
    >>> check_list([0.5], ["rho"], "psi", "Pass fit.psi.")
    array([0.5])
    """
    import numpy as np

    try:
        values = np.asarray(value, dtype=float).ravel()
    except (TypeError, ValueError, OverflowError):
        raise DescriptionError(f"{what} is {_shown(value)}; expected {len(names)} numbers. {write}") from None
    if values.size != len(names):
        listed = f": {', '.join(names)}" if names else ""
        raise DescriptionError(f"{what} has {values.size} entries; this model has {len(names)}{listed}. {write}")
    for name, number in zip(names, values, strict=True):
        if not np.isfinite(number):
            raise DescriptionError(f"{what} has {number} for {name}; expected finite numbers. {write}")
    return values


def _is_truth(value: Any) -> bool:
    """Whether it is Python's bool or NumPy's."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _shown(value: Any, longest: int = 60) -> str:
    """What came, short: its repr, or its type where that is long."""
    text = repr(value)
    return text if len(text) <= longest and "\n" not in text else f"a {type(value).__name__}"
