"""The residuals of new rows: their variance, and what was seen of their series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.covariances.residuals.structure import Borrowing, Source
from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import numbers, say_rows
from bayeslmm.design.design import Design
from bayeslmm.errors import DataError
from bayeslmm.predictions.encoding import Rows, seen_rows
from bayeslmm.predictions.linear import Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class Borrowed:
    """What some rows take from sums of seen residuals, ``coefficient * (y - fitted)[index]``.

    Attributes
    ----------
    y : (s,) array
        Sums of the responses.
    fitted : Linear
        The same sums of what the model says of them.
    index : (rows,) int array
        Per row, which of the sums it takes.
    coefficient : callable
        Of R's parameters psi (..., k), to (..., rows).
    """

    y: np.ndarray
    fitted: Linear
    index: np.ndarray
    coefficient: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """The residuals of some rows given those that were seen, relative to sigma^2.

    Attributes
    ----------
    borrowed : tuple of Borrowed
    variance : callable
        Of R's parameters psi (..., k), to (..., rows).
    """

    borrowed: tuple[Borrowed, ...]
    variance: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class NewResiduals:
    """The residuals of rows.

    Attributes
    ----------
    design : Design
    root_weights : (n,) array
    stratum : (n,) int array
    borrowing : Borrowing
        Before weights and strata.
    """

    design: Design
    root_weights: np.ndarray
    stratum: np.ndarray
    borrowing: Borrowing

    @classmethod
    def of(cls, rows: Rows, borrows: bool) -> NewResiduals:
        """Read what the residuals of the rows need; `borrows` asks for what was seen of their series.

        Raises
        ------
        DataError
            For weights that are none, strata that the model hasn't seen, and rows of which R says nothing.
        """
        design, frame = rows.design, rows.frame
        residual = design.residual
        asked = residual.residual
        root_weights = np.sqrt(_weights(asked.weights, rows)) if asked.weights else np.ones(rows.n)
        stratum = _strata(asked.by, rows) if asked.by else np.zeros(rows.n, dtype=np.int64)
        if borrows:
            borrowing = residual.structure.borrowing(frame)
        else:
            alone = residual.structure.variances(frame)
            borrowing = Borrowing(sources=(), variance=lambda rows, *own: alone[rows])
        return cls(design=design, root_weights=root_weights, stratum=stratum, borrowing=borrowing)

    def scale(self, rows: slice, psi: np.ndarray) -> np.ndarray:
        """What strata and weights multiply the rows' residuals by, (..., rows)."""
        _, sds = self._split(psi)
        out = 1.0 / self.root_weights[rows]
        return out * np.concatenate(np.broadcast_arrays(np.ones(1), *sds[1:]), axis=-1)[..., self.stratum[rows]]

    def block(self, rows: slice) -> Noise:
        """Those of some rows."""
        borrowed = [one for source in self.borrowing.sources for one in self._borrowed(source, rows)]

        def variance(psi: np.ndarray) -> np.ndarray:
            own, _ = self._split(psi)
            return self._whole(self.borrowing.variance(rows, *own) * self.scale(rows, psi) ** 2, psi)

        return Noise(borrowed=tuple(borrowed), variance=variance)

    def _borrowed(self, source: Source, rows: slice) -> list[Borrowed]:
        """One for each stratum of the seen rows, whose SDs their residuals are divided by."""
        from scipy.sparse import diags_array

        design, residual = self.design, self.design.residual
        used, index = np.unique(source.index[rows], return_inverse=True)
        sums, out = source.sums[used], []
        for s in range(max(len(residual.strata), 1)):
            own = residual.root_weights * (residual.stratum == s) if residual.strata else residual.root_weights
            part = (sums @ diags_array(own, format="csr")).tocsr()
            part.eliminate_zeros()
            seen = np.unique(part.indices)
            if not seen.size:
                continue
            part = part[:, seen]
            fitted = seen_rows(design, seen).combined(part)
            coefficient = self._coefficient(source, rows, s)
            out.append(Borrowed(y=part @ design.y[seen], fitted=fitted, index=index, coefficient=coefficient))
        return out

    def _coefficient(self, source: Source, rows: slice, s: int) -> Callable[[np.ndarray], np.ndarray]:
        def coefficient(psi: np.ndarray) -> np.ndarray:
            own, sds = self._split(psi)
            return self._whole(source.coefficient(rows, *own) * self.scale(rows, psi) / sds[s], psi)

        return coefficient

    @staticmethod
    def _whole(values: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Numbers (..., rows) at all of psi (..., k), also where nothing depends on it."""
        return np.broadcast_to(values, (*psi.shape[:-1], values.shape[-1]))

    def _split(self, psi: np.ndarray) -> tuple[list[Any], list[Any]]:
        """(the structure's parameters, the strata's relative SDs), each (..., 1)."""
        return self.design.residual.split([psi[..., k, None] for k in range(psi.shape[-1])])


def _weights(name: str, rows: Rows) -> np.ndarray:
    w = numbers(rows.frame[name], "the weights")
    bad = ~(w > 0)
    if bad.any():
        raise DataError(
            f"The weights {name!r} are zero or negative in {say_rows(rows.frame.index, bad)}; expected positive ones: "
            f"the variance of a row is sigma^2 / {name}."
        )
    return w


def _strata(name: str, rows: Rows) -> np.ndarray:
    strata = rows.design.residual.strata
    found = find_groups([rows.frame[name]])
    known = {label: k for k, label in enumerate(strata)}
    code = np.array([known.get(label, -1) for label in found.labels])[found.index]
    if (code < 0).any():
        labels = ", ".join(repr(label) for label in found.labels if label not in known)
        raise DataError(
            f"The strata {name!r} have {labels} ({say_rows(rows.frame.index, code < 0)}), whose variance the model "
            f"doesn't know; expected one of {', '.join(map(repr, strata))}. kind='mean' needs none."
        )
    return code
