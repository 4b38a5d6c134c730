"""Sums over rows, which add: tonight's rows update yesterday's model without the old rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self

from bayeslmm.data.table import Taken
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.sources.growing import KeptSums, kept_of, kept_of_design, single_rows, sum_of
from bayeslmm.support.threads import one_blas_thread


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the rows of a model: all that ML, REML, posteriors and tables need of them.

    Rows are counted, and their columns and products of columns summed, in cells: the combinations of groups, categories
    and columns of two values. ``a + b`` are the sums of both sets of rows, as if they had been one table; groups and
    categories that only one of them has are those of both. `LMM.from_sums` makes the model.

    Attributes
    ----------
    kept : KeptSums

    Examples
    --------
    >>> import bayeslmm as blm
    >>> yesterday = {"y": [1.0, 2, 4, 5], "g": list("aabb")}
    >>> tonight = {"y": [8.0, 9, 3], "g": list("ccb")}
    >>> sums = blm.Sums.of("y ~ 1 + (1 | g)", yesterday) + blm.Sums.of("y ~ 1 + (1 | g)", tonight)
    >>> sums
    Sums('y ~ 1 + (1 | g)', 7 rows in 3 cells)
    >>> whole = {name: yesterday[name] + tonight[name] for name in "yg"}
    >>> blm.LMM.from_sums(sums).ml().loglik.__round__(6) == blm.LMM("y ~ 1 + (1 | g)", whole).ml().loglik.__round__(6)
    True

    Notes
    -----
    Source: Chan, Golub & LeVeque (1983): products are kept around each cell's mean, and joined by means and their
    distance, so that a distant zero costs no digits.
    """

    kept: KeptSums = field(repr=False)

    @classmethod
    def of(cls, hierarchy: Hierarchy | str, data: Any, *, missing: str = "error") -> Self:
        """Sum over rows; they may be few, and say nothing by themselves.

        Parameters
        ----------
        hierarchy : Hierarchy or str
            The description, or an lme4 formula.
        data : frame, mapping of columns, or source
            As `LMM` takes them.
        missing : {"error", "drop"}

        Raises
        ------
        DescriptionError, DataError
            For what needs rows in their order (AR(1), known R), and for columns that the formula can't take.

        Examples
        --------
        >>> Sums.of("y ~ 1 + x + (1 | g)", {"y": [3.0], "x": [1.5], "g": ["a"]})
        Sums('y ~ 1 + x + (1 | g)', 1 row in 1 cell)
        """
        if isinstance(hierarchy, str):
            hierarchy = Hierarchy.from_formula(hierarchy)
        if not isinstance(hierarchy, Hierarchy):
            raise DescriptionError(
                f"The description is a {type(hierarchy).__name__}; a Hierarchy or a formula was expected, such as "
                "Sums.of('y ~ 1 + x + (1 | group)', rows)."
            )
        with one_blas_thread():
            return cls(kept_of(hierarchy, data, missing))

    def updated(self, data: Any, *, missing: str = "error") -> Self:
        """Add new rows: what transforms such as ``center(x)`` remember stays that of the first ones.

        Parameters
        ----------
        data : frame, mapping of columns, or source
        missing : {"error", "drop"}

        Examples
        --------
        >>> sums = Sums.of("y ~ center(x) + (1 | g)", {"y": [1.0, 3], "x": [1.0, 3], "g": ["a", "b"]})
        >>> sums.updated({"y": [5.0], "x": [9.0], "g": ["c"]})
        Sums('y ~ 1 + center(x) + (1 | g)', 3 rows in 3 cells)
        """
        with one_blas_thread():
            return type(self)(sum_of(self.kept, kept_of(self.kept.hierarchy, data, missing, self.kept.state)))

    def __add__(self, other: Sums) -> Self:
        if not isinstance(other, Sums):
            return NotImplemented
        with one_blas_thread():
            return type(self)(sum_of(self.kept, other.kept))

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.kept.n

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.kept.cells.counts)

    def describe(self) -> str:
        """Say what the sums are, and what they reveal: a cell of one row is that row.

        Examples
        --------
        >>> print(Sums.of("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4], "g": list("aab")}).describe())
        3 rows in 2 cells of 'g', with 3 sums each.
        What they reveal: 1 cell has one row, whose numbers can be read from its sums; 1 group of g has one row.
        Larger cells reveal their number of rows, means, variances, covariances and extremes.
        """
        cells = self.kept.cells
        A, keys = len(cells.names), list(cells.keys.columns)
        of = f" of {', '.join(map(repr, keys))}" if keys else ""
        alone = single_rows(self.kept, keys)
        said = f"{alone} {'cell has' if alone == 1 else 'cells have'} one row, whose numbers can be read from its sums"
        said = said if alone else "no cell has one row"
        for level in self.kept.hierarchy.levels:
            one = single_rows(self.kept, level.group)
            said += f"; {one} {f'group of {level.label} has' if one == 1 else f'groups of {level.label} have'} one row"
        lines = [
            f"{_many(self.n, 'row')} in {_many(self.n_cells, 'cell')}{of}, with {1 + A + A * (A + 1) // 2} sums each.",
            f"What they reveal: {said}.",
            "Larger cells reveal their number of rows, means, variances, covariances and extremes.",
        ]
        return visible("\n".join(lines))

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the sums to a folder that `load_sums` reads; none of the rows is in it but as `describe` says.

        Parameters
        ----------
        folder : str or Path
            A new folder.
        overwrite : bool
            Whether what is there already is replaced, once the new one is whole.

        Raises
        ------
        SavedError
            If the folder exists or can't be written.

        Examples
        --------
        >>> import tempfile
        >>> import bayeslmm as blm
        >>> sums = blm.Sums.of("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4], "g": list("aab")})
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     blm.load_sums(sums.save(f"{parent}/sums"))
        Sums('y ~ 1 + (1 | g)', 3 rows in 2 cells)
        """
        from bayeslmm.saved.sums_files import save_parts

        return save_parts(self.kept, folder, overwrite=overwrite)

    def __repr__(self) -> str:
        rows, cells = _many(self.n, "row"), _many(self.n_cells, "cell")
        return visible(f"Sums({self.kept.hierarchy.formula!r}, {rows} in {cells})")


def load_sums(folder: str | PathLike[str]) -> Sums:
    """Read what `Sums.save` wrote.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    Sums

    Raises
    ------
    SavedError
        At the file that is damaged, missing or too many. Nothing is unpickled or run.

    Examples
    --------
    >>> import tempfile
    >>> import bayeslmm as blm
    >>> lmm = blm.example("dyestuff")
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     sums = blm.load_sums(lmm.sums().save(f"{parent}/sums"))
    >>> blm.LMM.from_sums(sums).reml().estimates().round(1).to_dict()
    {'beta[Intercept]': 1527.5, 'sigma': 49.5, 'sigma_u2': 42.0}
    """
    from bayeslmm.saved.sums_files import load_parts

    return Sums(load_parts(folder))


def sums_of_design(design: Any) -> Sums:
    """The sums of a model's rows, or those that it was made of.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> sums_of_design(blm.example("dyestuff").design).n
    30
    """
    if not design.has_rows:
        return Sums(kept_of_design(design))
    with one_blas_thread():
        return Sums(kept_of(design.hierarchy, Taken(frame=design.frame, dropped=design.dropped)))


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
