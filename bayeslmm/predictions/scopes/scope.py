"""What a scope says of the rows at one level: whose effects each of them takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from bayeslmm.data.groups import Groups

if TYPE_CHECKING:
    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The groups of new rows at one level, beside those of the model.

    Attributes
    ----------
    rows : pandas.Index
        The rows' labels.
    groups : Groups or None
        None where the scope doesn't ask for them.
    code : array
        Per group found, its number in the model, -1 where the model hasn't seen it.
    """

    rows: pd.Index
    groups: Groups | None = None
    code: np.ndarray | None = None

    @property
    def names(self) -> Groups:
        """The groups, where they were asked for."""
        assert self.groups is not None
        return self.groups

    @property
    def seen(self) -> np.ndarray:
        """The model's group of each row, -1 where it is new."""
        assert self.code is not None
        return self.code[self.names.index]

    @property
    def none(self) -> np.ndarray:
        """No group, for each row."""
        return np.full(len(self.rows), -1, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """Whose effects the rows take at one level; a row of which all is -1, and `mean` None, takes none.

    Attributes
    ----------
    seen : (n,) int array
        The group of the model, or -1.
    fresh : (n,) int array
        A new group, as a place in `labels`, or -1.
    labels : tuple of str
        The new groups.
    mean : (m,) array or None
        Weights of the model's groups in the mean that all rows take.
    """

    seen: np.ndarray
    fresh: np.ndarray
    labels: tuple[str, ...] = ()
    mean: np.ndarray | None = None


class Scope(ABC):
    """Whose effects rows take.

    Attributes
    ----------
    name : str
        As it is asked for: ``scope="observed"``.
    text : str
        What is said of a level's effects in notes, after "the effects of <level>: ".
    needs_effects, needs_groups : bool
        Whether the rows need the columns whose effects vary, and the grouping columns.
    keeps : bool
        Whether a row of a group that was seen keeps that group's effects, and with it what was seen of its residuals.
    draws : bool
        Whether groups may be new, with effects from N(0, Sigma).
    integrates : bool
        Whether what is asked for is the mean over such groups, not one of them.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    needs_effects: ClassVar[bool] = True
    needs_groups: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    integrates: ClassVar[bool] = False

    def at(self, design: Design, k: int) -> Scope:
        """The scope of level k alone.

        Raises
        ------
        DescriptionError
            Where it can't be told.
        """
        return self

    @abstractmethod
    def take(self, level: LevelDesign, found: Found) -> Taken:
        """Whose effects the rows take.

        Raises
        ------
        DataError
            For groups that this scope can't take.
        """


def new_groups(found: Found, which: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(per row a place among the new groups, or -1, their labels), `which` marking the groups found that are new."""
    place = np.where(which, np.cumsum(which) - 1, -1)
    labels = tuple(label for label, new in zip(found.names.labels, which, strict=True) if new)
    return place[found.names.index], labels
