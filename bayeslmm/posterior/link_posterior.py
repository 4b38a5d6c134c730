"""The posterior of a model whose outcome isn't Gaussian, the effects integrated out: of coefficients, SDs, and so on.

x = (coefficients of the orthogonal X in units of the link's scale, log(SD + shift) and coordinates of correlations,
coordinates of the family's own parameters). Priors are those of the joint model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.design.parameters import Coordinates, level_names
from bayeslmm.integration.exact_likelihood import NO_KEYS, ExactLikelihood, Points
from bayeslmm.integration.search import STARTS, first_coefficients
from bayeslmm.link_model import LinkModel

FARTHEST = 300.0  # of a coordinate


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkPosterior:
    """log p(x | y) up to a constant.

    Attributes
    ----------
    shift : (k,) array
        An SD has the coordinate log(SD + shift): zero but for SDs, see `CollapsedPosterior`.
    """

    model: LinkModel
    likelihood: ExactLikelihood
    shift: np.ndarray

    @cached_property
    def coordinates(self) -> Coordinates:
        """Of SDs and correlations; their log sigma is zero throughout."""
        return Coordinates(design=self.model.design, maps=self.model.priors.effect_maps)

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.model.design.p

    @cached_property
    def last(self) -> int:
        """Where the family's own parameters begin."""
        return self.p + self.coordinates.size - 1

    @property
    def size(self) -> int:
        """Length of x."""
        return self.last + len(self.model.problem.labels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each of x is of."""
        coefficients = tuple(f"coefficient {k + 1}" for k in range(self.p))
        return (*coefficients, *self.coordinates.names[1:], *self.model.problem.labels)

    @cached_property
    def sd_positions(self) -> list[int]:
        """Where the SDs stand."""
        return [self.p - 1 + k for sd, _ in self.coordinates.slices for k in range(sd.start, sd.stop)]

    @cached_property
    def _to_stated(self) -> np.ndarray:
        """From x to the coefficients whose priors are stated."""
        rows, at = self.model.problem.rows, self.model.priors.beta_anchor
        columns = self.model.design.X if at is None else np.asarray(at.columns)
        if not self.p:
            return np.zeros((0, 0))
        if not self.model.family.has_intercept:
            columns = columns - columns.mean(axis=0)
        return self.model.problem.unit * np.linalg.lstsq(columns, rows.X, rcond=None)[0]

    @cached_property
    def lower(self) -> np.ndarray:
        """Where the SDs are zero, on the scale of x; -inf for the rest."""
        with np.errstate(divide="ignore"):
            return np.log(self.shift)

    # coordinates ------------------------------------------------------------------------------------------------

    def to_log(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x with log SDs, log |d SD / d x| summed); NaN outside the support (SD <= 0)."""
        out = np.array(x, dtype=float)
        jacobian = np.zeros(out.shape[:-1])
        for k in self.sd_positions:
            jacobian = jacobian + out[..., k]
            if self.shift[k] > 0:
                with np.errstate(invalid="ignore", divide="ignore"):
                    out[..., k] = np.log(np.exp(out[..., k]) - self.shift[k])
        return out, jacobian

    def from_log(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (k,) of the same with log SDs, and its derivatives by them."""
        moved = self.shift > 0
        size = np.exp(np.where(moved, x, 0.0))
        return np.where(moved, np.log(size + self.shift), x), np.where(moved, size / (size + self.shift), 1.0)

    def shifted(self, mode: np.ndarray) -> LinkPosterior:
        """The same, each SD's coordinate shifted by its value at `mode` (k,), in logs."""
        shift = np.zeros(self.size)
        shift[self.sd_positions] = np.exp(mode[self.sd_positions])
        return replace(self, shift=shift)

    def phi(self, logs: np.ndarray) -> np.ndarray:
        """Coordinates of SDs and correlations (..., 1 + ...), log sigma being zero."""
        own = logs[..., self.p : self.last]
        return np.concatenate([np.zeros((*own.shape[:-1], 1)), own], axis=-1)

    def points(self, logs: np.ndarray) -> Points:
        """What the likelihood needs, at x with log SDs (B, k)."""
        factors = self.coordinates.relative_factors(self.phi(logs))
        maps = self.model.problem.rows.maps
        parts = [(M @ F).reshape(len(logs), -1) for M, F in zip(maps, factors, strict=True)]
        return Points(
            gamma=self.model.problem.unit * logs[:, : self.p],
            lams=np.concatenate([*parts, np.zeros((len(logs), 0))], axis=1), psi=logs[:, self.last :],
        )  # fmt: skip

    # density ----------------------------------------------------------------------------------------------------

    def log_prior(self, x: np.ndarray) -> np.ndarray:
        """Log prior density (B,) of x (B, k), Jacobians included."""
        logs, total = self.to_log(x)
        priors, phi = self.model.priors, self.phi(logs)
        stated = logs[:, : self.p] @ self._to_stated.T
        for j, prior in enumerate(priors.beta):
            total = total + prior.logpdf(stated[:, j])
        total = total + priors.sds.logpdf(np.exp(logs[:, self.sd_positions]))
        for level, (_, corr), own in zip(self.model.design.levels, self.coordinates.slices, priors.corr, strict=True):
            if own is not None:
                total = total + level.structure.log_prior(own, phi[:, corr], level.r)
        return total + self._log_prior_of_family(logs)

    def _log_prior_of_family(self, logs: np.ndarray) -> np.ndarray:
        problem, family = self.model.problem, self.model.family
        psi = logs[:, self.last :]
        if not psi.shape[1]:
            return np.zeros(len(logs))
        values = family.dispersion_values(psi)
        if self.model.thresholds_as_written:
            values = values + (logs[:, : self.p] @ (problem.unit * problem.rows.means @ problem.rows.back))[:, None]
        total = family.dispersion_log_jacobian(psi)
        for k, prior in enumerate(self.model.priors.dispersion):
            total = total + prior.logpdf(values[:, k])
        return total

    def evaluate(self, x: np.ndarray, keys: np.ndarray, picks: np.ndarray = NO_KEYS) -> tuple[np.ndarray, np.ndarray]:
        """(log density (B,), the draw that is taken) at x (B, k); -inf where anything overflows."""
        with np.errstate(all="ignore"):
            prior = self.log_prior(x)
            logs, _ = self.to_log(x)
            sane = np.isfinite(prior) & np.isfinite(logs).all(axis=1) & (np.abs(logs) < FARTHEST).all(axis=1)
            at = self.points(np.where(sane[:, None], logs, 0.0))
            sane &= np.isfinite(at.lams).all(axis=1) & (np.abs(at.lams).max(axis=1, initial=0.0) < 1e12)
            value, index = np.full(len(x), -np.inf), np.zeros(len(x), dtype=np.int64)
            where = np.flatnonzero(sane)
            own = picks[where] if len(picks) else picks
            value[where], index[where] = self.likelihood.log_density(at.part(where), keys[where], own)
            value = value + prior
        return np.where(np.isfinite(value), value, -np.inf), index

    # where to begin ----------------------------------------------------------------------------------------------

    def starts(self) -> list[np.ndarray]:
        """Points, in logs, from which modes are looked for."""
        problem = self.model.problem
        base = first_coefficients(problem)
        out = []
        for size in STARTS if problem.sds.any() else STARTS[:1]:
            x = base.copy()
            x[problem.sds] = size
            phi = self.coordinates.from_relative(0.0, problem.lambdas(x))[1:]
            out.append(np.concatenate([x[: self.p], phi, problem.psi(x)]))
            sds = self.sd_positions
            out[-1][sds] = np.log(self.model.priors.sds.inside(np.exp(out[-1][sds])))
        return out

    def box(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of a search, in logs: the priors' supports, and 15 either side of the start; SDs to 400 times it."""
        lower, upper = start - 15.0, start + 15.0
        upper[self.sd_positions] = start[self.sd_positions] + 6.0
        sds = self.model.priors.sds
        for k, low, high in zip(self.sd_positions, sds.lower, sds.upper, strict=True):
            lower[k] = max(lower[k], np.log(low) + 1e-6) if low > 0 else lower[k]
            upper[k] = min(upper[k], np.log(high) - 1e-6)
        low, high = self.model.family.dispersion_bounds(self.model.outcome)
        lower[self.last :], upper[self.last :] = (
            np.maximum(lower[self.last :], low),
            np.minimum(upper[self.last :], high),
        )
        return np.minimum(lower, start), np.maximum(upper, start)

    # draws -------------------------------------------------------------------------------------------------------

    def natural(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The parameters as written, (N, ...) by name, at x (N, k)."""
        model, (logs, _) = self.model, self.to_log(x)
        values = {"beta": logs[:, : self.p] @ self._to_stated.T @ model.priors.beta_map.T}
        _, sds, corrs = self.coordinates.natural(self.phi(logs))
        for level, sd, corr in zip(model.design.levels, sds, corrs, strict=True):
            names = level_names(level)
            own = level.structure.gather(sd)
            values[names.sigma] = own[:, 0] if level.n_sds == 1 else own
            if level.correlated:
                values[names.corr] = corr
                if not level.structure.paired:
                    values[names.rho] = level.structure.correlation_values(corr)[:, 0]
        psi = logs[:, self.last :]
        if not psi.shape[1]:
            return values
        own = model.family.dispersion_values(psi)
        if model.family.has_intercept:
            return values | {label: own[:, k] for k, label in enumerate(model.problem.labels)}
        return values | {"threshold": own + (values["beta"] @ model.problem.rows.means)[:, None]}
