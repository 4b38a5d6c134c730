"""Known matrices with labels: kinships, phylogenies, spatial covariances, or their inverses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bayeslmm.data.matrix_file import read_npz
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.support.arguments import check_flag
from bayeslmm.support.files import read_bytes, read_text

if TYPE_CHECKING:
    import numpy as np

LABEL_LIMIT = 8_000  # rows of a known matrix that is made dense
ASYMMETRY = 1e-8  # relative to the largest entry: what printing and rounding leave


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownMatrix:
    """A symmetric matrix whose rows and columns have labels: a covariance, or a precision (its inverse).

    Parameters
    ----------
    labels : sequence of str
        One per row; the columns have the same ones in the same order.
    matrix : (m, m) array, or sparse
        Symmetric and finite.
    precision : bool
        Whether this is the inverse of the covariance.
    source : str or mapping
        What a description file says of it: a path, or ``{"file": ..., "labels": ...}``.

    Raises
    ------
    DescriptionError
        If it isn't square, symmetric or finite, or a label is missing or stands twice.

    Examples
    --------
    >>> K = KnownMatrix(labels=["a", "b"], matrix=[[1.0, 0.5], [0.5, 1.0]])
    >>> K.shape, K.root(["b", "a"]).round(3).tolist()
    ((2, 2), [[1.0, 0.0], [0.5, 0.866]])
    """

    labels: tuple[str, ...]
    matrix: Any
    precision: bool = False
    source: str | Mapping[str, str] = ""

    def __post_init__(self):
        check_flag("precision", self.precision)
        if isinstance(self.labels, str) or not isinstance(self.labels, Iterable):
            raise DescriptionError(f"labels={self.labels!r} of {self.name}; expected a list of them, one per row")
        labels = tuple(_label(label) for label in self.labels)
        _check_same_labels(self.matrix, labels, self.name)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "matrix", _checked(self.matrix, labels, self.name))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, m)."""
        return self.matrix.shape

    @property
    def sparse(self) -> bool:
        """Whether the matrix is kept sparse."""
        from scipy.sparse import issparse

        return bool(issparse(self.matrix))

    @property
    def name(self) -> str:
        """What errors call it."""
        kind = "precision" if self.precision else "covariance"
        return f"the {kind} {_where(self.source)}".rstrip()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KnownMatrix):
            return NotImplemented
        same = self.labels == other.labels and self.precision == other.precision
        return bool(same and abs(self.matrix - other.matrix).max() == 0)

    def __hash__(self) -> int:
        return hash((self.labels, self.precision))

    def __repr__(self) -> str:
        kind = "precision" if self.precision else "covariance"
        return f"KnownMatrix({kind} of {len(self.labels)} labels{', sparse' if self.sparse else ''})"

    def dense(self, order: Sequence[str]) -> np.ndarray:
        """Return the matrix as an array, its rows and columns in the order of the labels given.

        Raises
        ------
        DescriptionError
            If there is no such label.

        Examples
        --------
        >>> KnownMatrix(labels=["a", "b"], matrix=[[1.0, 0.5], [0.5, 2.0]]).dense(["b", "a"]).tolist()
        [[2.0, 0.5], [0.5, 1.0]]
        """
        place = {label: k for k, label in enumerate(self.labels)}
        unknown = [label for label in order if label not in place]
        if unknown:
            raise DescriptionError(f"{self.name} has no label {unknown[0]!r}.{did_you_mean(unknown[0], place)}")
        at = [place[label] for label in order]
        whole = self.matrix.toarray() if self.sparse else self.matrix
        return whole[at][:, at]

    def root(self, order: Sequence[str]) -> np.ndarray:
        """Lower triangular L with L L' = covariance, rows in the order of the labels given.

        Raises
        ------
        DescriptionError
            If the matrix isn't positive definite; the smallest eigenvalue is named.

        Examples
        --------
        >>> KnownMatrix(labels=["a", "b"], matrix=[[4.0, 0.0], [0.0, 9.0]]).root(["a", "b"]).tolist()
        [[2.0, 0.0], [0.0, 3.0]]
        """
        import numpy as np
        from scipy.linalg import solve_triangular

        if not self.precision:
            return cholesky(self.dense(order), self.name)
        # labels that aren't asked for go last: they are left out of the covariance, not of its inverse
        asked = set(order)
        A = self.dense([*order, *(label for label in self.labels if label not in asked)])
        # Q = U U' with U upper triangular, so that the covariance is (U^-T)(U^-T)'
        U = cholesky(A[::-1, ::-1], self.name)[::-1, ::-1]
        return solve_triangular(U, np.eye(len(A)), lower=False).T[: len(order), : len(order)]

    def to_dict(self) -> dict[str, Any] | str:
        """Return what makes this matrix again: its file, or labels and numbers.

        Raises
        ------
        DescriptionError
            If it has neither a file nor few enough labels to be written out in full.

        Examples
        --------
        >>> KnownMatrix(labels=["a"], matrix=[[4.0]]).to_dict()
        {'labels': ['a'], 'matrix': [[4.0]]}
        """
        if self.source:
            return self.source if isinstance(self.source, str) else dict(self.source)
        if len(self.labels) > LABEL_LIMIT:
            raise DescriptionError(
                f"{self.name} has {len(self.labels):,} labels, too many to be written out: write it with "
                "scipy.io.mmwrite and read it by KnownMatrix.read(file, labels=...), so that a description names its "
                "file; lmm.save() keeps it as it is."
            )
        whole = self.matrix.toarray() if self.sparse else self.matrix
        return {"labels": list(self.labels), "matrix": whole.tolist()}

    @classmethod
    def of(cls, given: Any, *, precision: bool = False, folder: Path | None = None) -> Self:
        """Make one from a labelled DataFrame, a file, a mapping of labels and matrix, or one of these already.

        Examples
        --------
        >>> import pandas as pd
        >>> KnownMatrix.of(pd.DataFrame([[1.0, 0.2], [0.2, 1.0]], index=["a", "b"], columns=["b", "a"]))
        Traceback (most recent call last):
        bayeslmm.errors.DescriptionError: the covariance: its rows are labelled 'a', 'b' and its columns 'b', 'a'; ...
        """
        kind = "precision" if precision else "covariance"
        if isinstance(given, KnownMatrix):
            if given.precision != precision:
                other = "covariance" if precision else "precision"
                raise DescriptionError(f"{given.name} was given where a {kind} is expected; it is a {other}")
            return given  # type: ignore[return-value]
        if isinstance(given, (str, Path)):
            return cls.read(given, precision=precision, folder=folder)
        if isinstance(given, Mapping):
            return _from_mapping(cls, given, precision, folder)
        if hasattr(given, "columns") and hasattr(given, "index"):
            return _from_frame(cls, given, precision)
        raise DescriptionError(
            f"a {kind} is a DataFrame with the groups' labels as its index and columns, a file (CSV or Matrix "
            f"Market), or KnownMatrix(labels=..., matrix=...); got {type(given).__name__}. Without labels its rows "
            "can't be matched to the groups."
        )

    @classmethod
    def read(
        cls, path: str | Path, *, labels: str | Path | None = None, precision: bool = False, folder: Path | None = None
    ) -> Self:
        """Read a CSV (labels in its first line and first column), or Matrix Market with a file of labels, one a line.

        Parameters
        ----------
        path : str or Path
            Ending in .csv, .csv.gz, .mtx, .mtx.gz, or .npz as in a saved model.
        labels : str or Path, optional
            The file of labels that belongs to a Matrix Market file.
        precision : bool
            Whether the file holds the inverse of the covariance.
        folder : Path, optional
            Where relative paths begin.

        Raises
        ------
        DescriptionError
            If the file isn't there, or isn't one of a matrix and its labels.

        Examples
        --------
        >>> from bayeslmm.gallery import FOLDER
        >>> KnownMatrix.read("data/calves_K.csv", folder=FOLDER).shape
        (8, 8)
        """
        base, text = folder or Path(), str(path)
        if text.endswith((".csv", ".csv.gz", ".npz")):
            if labels is not None:
                place = "itself" if text.endswith(".npz") else "its first line and first column"
                raise DescriptionError(f"{text} has its labels in {place}; leave labels = {str(labels)!r} out")
            names, matrix = _npz(base / text) if text.endswith(".npz") else _csv(base / text)
            return cls(labels=tuple(names), matrix=matrix, precision=precision, source=text)
        if not text.endswith((".mtx", ".mtx.gz")):
            raise DescriptionError(
                f"{text} is no .csv, .csv.gz, .mtx, .mtx.gz or .npz file; a known matrix is read from one of these"
            )
        if labels is None:
            raise DescriptionError(
                f"{text} is in Matrix Market format, which has no labels; write"
                f' {{file = "{text}", labels = "labels.txt"}} with a file of one label a line'
            )
        names = [line.strip() for line in _text(base / labels).splitlines() if line.strip()]
        source = {"file": text, "labels": str(labels)}
        return cls(labels=tuple(names), matrix=_market(base / text), precision=precision, source=source)


def cholesky(A: np.ndarray, name: str) -> np.ndarray:
    """Lower triangular L with L L' = A.

    Raises
    ------
    DescriptionError
        If A isn't positive definite; `name` is what the error calls it.

    Examples
    --------
    >>> cholesky([[1.0, 2.0], [2.0, 1.0]], "K")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: K is not positive definite: its smallest eigenvalue is -1; ...
    """
    import numpy as np

    try:
        L = np.linalg.cholesky(A)
        # rounding lets a singular matrix pass: then the last pivots are noise
        singular = bool((np.diag(L) ** 2 <= len(A) * np.finfo(float).eps * np.diag(A)).any())
    except np.linalg.LinAlgError:
        singular = True
    if singular:
        raise DescriptionError(
            f"{name} is not positive definite: its smallest eigenvalue is {np.linalg.eigvalsh(A)[0]:.3g}; all have to "
            "be above zero. Identical individuals make it singular: give them one label, or add a little to its "
            "diagonal."
        )
    return L


def _where(source: str | Mapping[str, str]) -> str:
    return f"in {source}" if isinstance(source, str) and source else f"in {source['file']}" if source else ""


def _label(value: object) -> str:
    """A label as the groups of the data have it: whole numbers without a point, combinations joined by colons."""
    if isinstance(value, tuple):
        return ":".join(map(_label, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_same_labels(matrix: Any, labels: tuple[str, ...], name: str) -> None:
    """Refuse a DataFrame whose own labels are others, or in another order; counted rows are no labels."""
    if not (hasattr(matrix, "index") and hasattr(matrix, "columns")):
        return
    for what, axis in (("rows", matrix.index), ("columns", matrix.columns)):
        own = tuple(_label(x) for x in axis)
        if own not in (labels, tuple(map(str, range(len(own))))):
            raise DescriptionError(
                f"{name} has {what} labelled {', '.join(map(repr, own[:4]))} but labels= says "
                f"{', '.join(map(repr, labels[:4]))}; expected the same in the same order. Write KnownMatrix.of(K) "
                "for a DataFrame with its own labels, or matrix=K.to_numpy() to give it others"
            )


def _checked(matrix: Any, labels: tuple[str, ...], name: str) -> Any:
    """The matrix as floats, made exactly symmetric; or an error that says what is wrong with it."""
    import numpy as np
    from scipy import sparse

    try:
        if getattr(getattr(matrix, "dtype", None), "kind", "") == "c":
            raise TypeError
        A: Any = sparse.csc_array(matrix, dtype=float) if sparse.issparse(matrix) else np.array(matrix, dtype=float)
    except (TypeError, ValueError):
        raise DescriptionError(f"{name} is no table of real numbers; a square matrix was expected") from None
    values = A.data if sparse.issparse(A) else A
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise DescriptionError(f"{name} has shape {A.shape}; a square matrix was expected")
    if not labels:
        raise DescriptionError(f"{name} has no labels; write one per row")
    if len(labels) != A.shape[0]:
        raise DescriptionError(f"{name} has {A.shape[0]} rows but {len(labels)} labels; write one label per row")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DescriptionError(f"{name} has the label {twice!r} twice; each label stands for one row")
    if not np.isfinite(values).all():
        many = int((~np.isfinite(values)).sum())
        raise DescriptionError(
            f"{name} has {many} entr{'y' if many == 1 else 'ies'} missing or infinite; every entry has to be a number"
        )
    gap = abs(A - A.T)
    largest = float(gap.max())
    if largest > ASYMMETRY * float(abs(A).max()):
        i, j = np.unravel_index(int(gap.argmax()), A.shape)
        raise DescriptionError(
            f"{name} is not symmetric: its largest asymmetry is {largest:.3g}, between the entries "
            f"({labels[i]!r}, {labels[j]!r}) = {A[i, j]:.6g} and ({labels[j]!r}, {labels[i]!r}) = {A[j, i]:.6g}"
        )
    return (A + A.T) / 2


def _from_frame(cls: type, frame: Any, precision: bool) -> Any:
    rows, columns = [_label(x) for x in frame.index], [_label(x) for x in frame.columns]
    kind = "precision" if precision else "covariance"
    if rows != columns:
        some = ", ".join(map(repr, rows[:4])), ", ".join(map(repr, columns[:4]))
        raise DescriptionError(
            f"the {kind}: its rows are labelled {some[0]} and its columns {some[1]}; both need the same labels "
            "in the same order, such as K.loc[labels, labels]"
        )
    return cls(labels=tuple(rows), matrix=frame.to_numpy(), precision=precision)


def _from_mapping(cls: Any, given: Mapping, precision: bool, folder: Path | None) -> Any:
    if set(given) == {"file", "labels"}:
        return cls.read(given["file"], labels=given["labels"], precision=precision, folder=folder)
    if set(given) == {"labels", "matrix"} and not isinstance(given["labels"], str):
        return cls(labels=tuple(given["labels"]), matrix=given["matrix"], precision=precision)
    raise DescriptionError(
        "a known matrix is {file, labels}, both paths, or {labels, matrix}, a list and the rows; got the keys "
        f"{', '.join(map(str, given)) or 'none'}"
    )


def _bytes(path: Path) -> bytes:
    """Content of a file, decompressed where its name ends in .gz."""
    import gzip
    import zlib

    content = read_bytes(path)
    try:
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DescriptionError(f"{path}: cannot be read: {error}") from None


def _text(path: Path) -> str:
    return read_text(path, content=_bytes(path))


def _npz(path: Path) -> tuple[list[str], Any]:
    return read_npz(path, read_bytes(path))


def _csv(path: Path) -> tuple[list[str], list[list[float]]]:
    """Labels and numbers of a square table whose first line and first column are the labels."""
    import csv

    reader = csv.reader(_text(path).splitlines())
    lines = [(reader.line_num, line) for line in reader if line]
    if len(lines) < 2:
        raise DescriptionError(f"{path}: expected a line of labels and a line for each of them; it has {len(lines)}")
    header = [label.strip() for label in lines[0][1][1:]]
    rows, names = [], []
    for number, (name, *values) in lines[1:]:
        names.append(name.strip())
        if len(values) != len(header):
            raise DescriptionError(
                f"{path}, line {number}: {len(values)} numbers for {len(header)} labels; expected one each"
            )
        try:
            rows.append([float(value) for value in values])
        except ValueError as error:
            raise DescriptionError(f"{path}, line {number}, label {name!r}: {error}") from None
    if names != header:
        raise DescriptionError(
            f"{path}: its first column has the labels {', '.join(map(repr, names[:4]))} and its first line "
            f"{', '.join(map(repr, header[:4]))}; both need the same labels in the same order"
        )
    return names, rows


def _market(path: Path) -> Any:
    import warnings
    from io import BytesIO

    from scipy.io import mmread

    content = BytesIO(_bytes(path))
    try:
        with warnings.catch_warnings():  # newer SciPy warns that it will return another sparse class; any will do
            warnings.simplefilter("ignore", DeprecationWarning)
            return mmread(content)
    except (ValueError, OverflowError) as error:
        raise DescriptionError(f"{path}: not readable as Matrix Market: {error}") from None
