"""Points of the parameters where the outcome isn't Gaussian: draws, or those around an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.errors import DescriptionError
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.tables.points import Basis, EffectPoints

NUMBERS = 2_000_000  # points times rows at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkPoints(EffectPoints):
    """N points of the parameters, on the scale of the link; sigma is one, there being no residual.

    Attributes
    ----------
    values : LinkValues
        The same as written.
    """

    values: LinkValues

    @classmethod
    def of(cls, values: LinkValues, lams: np.ndarray | None = None) -> LinkPoints:
        """Of values, and of the kernels' lambda vectors where these are known."""
        if lams is None:
            maps = values.model.problem.rows.maps
            parts = [(M @ F).reshape(values.n, -1) for M, F in zip(maps, values.factors, strict=True)]
            lams = np.concatenate([np.zeros((values.n, 0)), *parts], axis=1)
        return cls(values=values, lams=lams, beta=values.beta, sigma=np.ones(values.n))

    @property
    def basis(self) -> Basis:
        """The rows as the integrals need them."""
        return self.values.model.problem.rows

    @property
    def dispersion(self) -> np.ndarray:
        """The family's own parameters (N, K)."""
        return self.values.dispersion

    def spread(self, most: int) -> LinkPoints:
        """So many of the points at most, evenly spaced."""
        if self.n <= most:
            return self
        at = np.linspace(0, self.n - 1, most).round().astype(int)
        return LinkPoints(values=self.values.some(at), lams=self.lams[at], beta=self.beta[at], sigma=self.sigma[at])

    def pieces(self) -> Iterator[slice]:
        """Points whose rows are held at a time."""
        step = max(1, NUMBERS // max(self.values.model.design.n, 1))
        return (slice(first, min(first + step, self.n)) for first in range(0, self.n, step))

    def row_effects(self, k: int, points: slice) -> np.ndarray:
        """Variance (N, n) of z'u of level k in each row."""
        level, better = self.basis.design.levels[k], self.basis.better[k]
        lam = self.relative_factor(k)[points]
        own = ((better @ lam) ** 2).sum(axis=-1)
        return own * level.variances[level.index] if level.related else own

    def fixed(self, points: slice) -> np.ndarray:
        """Offset + X beta (N, n)."""
        design = self.basis.design
        eta = self.beta[points] @ design.X.T
        return eta if design.offset is None else eta + design.offset

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean of y (N,) over all rows, the effects integrated out; zero where y has no mean."""
        family, out = self.values.model.family, np.zeros(self.n)
        if family.responses(self.values.model.outcome):
            return out
        for some in self.pieces():
            v = sum((self.row_effects(k, some) for k in range(len(self.basis.design.levels))), np.zeros((1, 1)))
            eta = self.fixed(some)
            out[some] = family.averaged(eta.T, np.broadcast_to(v, eta.shape).T, self.dispersion[some])[0].mean(axis=0)
        return out

    def row_variances(self, strata: np.ndarray) -> np.ndarray:
        """What stands for the rows' own variance on the link's scale, the same at all places."""
        return np.repeat(self.latent()[0][:, None], len(strata), axis=1)

    def latent(self) -> tuple[np.ndarray, str]:
        """The same (N,), and what it is, in words.

        Raises
        ------
        DescriptionError
            Where the family has none.
        """
        family = self.values.model.family
        with np.errstate(divide="ignore"):
            found = family.latent_variance(self.mean, self.dispersion)
        if found is None:
            raise DescriptionError(
                f"Rows of a {family} outcome have no variance on the scale of the link, so that there are no shares "
                "of it. Write glmm.varcorr(result) for the effects' SDs."
            )
        return found
