"""Sparse matrices with labels, legible when printed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import sparray

CELL_LIMIT = 10_000_000
_WIDTH = 120
_ROWS = 40
_COLUMNS = 60


@dataclass(frozen=True, eq=False, repr=False)
class LabelledMatrix:
    """A sparse matrix that knows the names of its rows and columns.

    Parameters
    ----------
    matrix : scipy sparse array
    rows, columns : pandas.Index or MultiIndex
        One label per row and per column.

    Examples
    --------
    >>> from scipy import sparse
    >>> matrix = sparse.csc_array([[1.0, 1, 0], [0, 0, 1]])
    >>> Zt = LabelledMatrix(matrix, pd.Index(["s1", "s2"]), pd.Index([0, 1, 2]))
    >>> Zt
    2 x 3 sparse matrix, 3 non-zeros (50 %)
       0 1 2
    s1 1 1 .
    s2 . . 1
    >>> (Zt @ Zt.T).to_frame().loc["s1", "s1"]
    np.float64(2.0)
    """

    __array_priority__ = 20.0  # ndarray @ LabelledMatrix comes here

    matrix: sparray
    rows: pd.Index
    columns: pd.Index

    def __post_init__(self) -> None:
        rows, columns = (x if isinstance(x, pd.Index) else pd.Index(x) for x in (self.rows, self.columns))
        if (len(rows), len(columns)) != self.matrix.shape:
            raise DataError(
                f"The labels are for a {len(rows)} x {len(columns)} matrix; this one is "
                f"{self.matrix.shape[0]} x {self.matrix.shape[1]}. Give one label per row and column."
            )
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "columns", columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def T(self) -> LabelledMatrix:
        """The transpose, labels included."""
        return LabelledMatrix(self.matrix.T.tocsc(), self.columns, self.rows)

    def toarray(self) -> np.ndarray:
        """Dense numpy array, of any size that memory allows."""
        return self.matrix.toarray()

    def to_frame(self) -> pd.DataFrame:
        """Dense, labelled DataFrame.

        Raises
        ------
        DataError
            Above 10 million cells: `.matrix` has the numbers without the zeros.
        """
        rows, columns = self.shape
        if rows * columns > CELL_LIMIT:
            raise DataError(
                f"A dense {rows:,} x {columns:,} table would take {8 * rows * columns / 1e9:.1f} GB; "
                f"at most {CELL_LIMIT:,} cells are made. Use .matrix, the sparse matrix, or a part of it."
            )
        return pd.DataFrame(self.toarray(), index=self.rows, columns=self.columns)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("A sparse matrix becomes an array only by a copy: leave copy=False out.")
        return self.toarray().astype(dtype, copy=False) if dtype is not None else self.toarray()

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LabelledMatrix):
            _same_labels(self.columns, other.rows)
            return LabelledMatrix((self.matrix @ other.matrix).tocsc(), self.rows, other.columns)
        if isinstance(other, pd.Series):
            _same_labels(self.columns, other.index)
            return pd.Series(self.matrix @ other.to_numpy(float), index=self.rows, name=other.name)
        if isinstance(other, pd.DataFrame):
            _same_labels(self.columns, other.index)
            return pd.DataFrame(self.matrix @ other.to_numpy(float), index=self.rows, columns=other.columns)
        return self.matrix @ other

    def __rmatmul__(self, other: Any) -> Any:
        return other @ self.matrix

    def __repr__(self) -> str:
        rows, columns, cells = _window(self)
        width = max((len(text) for text in rows), default=0)
        widths = [max(len(text) for text in (*column, "")) for column in zip(*cells, strict=True)]
        named = [max(w, len(c)) for w, c in zip(widths, columns, strict=True)]
        with_names = width + sum(named) + len(named) <= _WIDTH
        use = named if with_names else widths
        fits = len(use)
        while fits and width + sum(use[:fits]) + fits > _WIDTH:
            fits -= 1
        lines = [_caption(self)]
        more = " ..." if fits < self.shape[1] else ""
        if with_names and columns:
            head = (text.rjust(w) for text, w in zip(columns, use, strict=True))
            lines.append(" ".join([" " * width, *head]) + more)
        for name, line in zip(rows, cells, strict=True):
            shown = (text.rjust(w) for text, w in zip(line[:fits], use, strict=False))
            lines.append(" ".join([name.ljust(width), *shown]).rstrip() + more)
        left = [f"{self.shape[0] - len(rows)} rows"] if len(rows) < self.shape[0] else []
        left += [f"{self.shape[1] - fits} columns"] if fits < self.shape[1] else []
        if left:
            lines.append(f"... {' and '.join(left)} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows, columns, cells = _window(self, columns=20)
        cut = len(columns) < self.shape[1]
        dots = ["..."] if cut else []
        head = "".join(f"<th>{escape(text)}</th>" for text in ["", *columns, *dots])
        body = "".join(
            f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{text}</td>" for text in [*line, *dots]) + "</tr>"
            for name, line in zip(rows, cells, strict=True)
        )
        left = f"<p>... {self.shape[0] - len(rows)} rows more</p>" if len(rows) < self.shape[0] else ""
        return (
            f'<div style="overflow-x: auto"><p>{_caption(self)}</p><table style="text-align: right">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}</div>"
        )


def _same_labels(columns: pd.Index, rows: pd.Index) -> None:
    """Refuse a product of matrices whose labels disagree."""
    if not columns.equals(rows):
        raise DataError(
            f"The columns on the left ({len(columns)}: {_first(columns)}) differ from the rows of the right "
            f"one ({len(rows)}: {_first(rows)}). Put them in the same order, or multiply the bare .matrix."
        )


def _first(labels: pd.Index) -> str:
    return ", ".join(_texts(labels[:3])) + (", ..." if len(labels) > 3 else "")


def _texts(labels: pd.Index) -> list[str]:
    """Labels as text; of a MultiIndex the parts that differ."""
    if not isinstance(labels, pd.MultiIndex):
        return [str(label) for label in labels]
    parts = [labels.get_level_values(k) for k in range(labels.nlevels)]
    varying = [part for part in parts if part.nunique() > 1] or [parts[-2 if len(parts) > 2 else -1]]
    return [" ".join(map(str, label)) for label in zip(*varying, strict=True)]


def _caption(m: LabelledMatrix) -> str:
    rows, columns = m.shape
    filled = m.matrix.nnz
    share = f" ({100 * filled / (rows * columns):.3g} %)" if rows * columns else ""
    return f"{rows} x {columns} sparse matrix, {filled} non-zeros{share}"


def _window(m: LabelledMatrix, columns: int = _COLUMNS) -> tuple[list[str], list[str], list[list[str]]]:
    """Row names, column names and cells as text: all of a small matrix, the corner of a large one."""
    rows = m.shape[0] if m.shape[0] <= _ROWS else 12
    columns = min(columns, m.shape[1])
    corner = m.matrix.tocsr()[:rows, :columns].toarray()
    cells = [["." if x == 0 else _number(x) for x in line] for line in corner]
    return _texts(m.rows)[:rows], _texts(m.columns)[:columns], cells


def _number(x: float) -> str:
    return f"{x:.0f}" if x == int(x) and abs(x) < 1e6 else f"{x:.4g}"
