"""Measurements with outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import Jet
from bayeslmm.families.stable import log1p_minus, rising, rising_slope


@dataclass(frozen=True, kw_only=True)
class StudentT(Family):
    """y = eta + sigma t, with nu degrees of freedom: sigma is the scale, in units of y, and no SD.

    The log density is not concave in eta: a group whose rows disagree may have several modes.

    Parameters
    ----------
    link : {"identity"}

    Examples
    --------
    >>> StudentT().mean(np.array([2.0])).tolist()
    [2.0]
    """

    name: ClassVar[str] = "student_t"
    links: ClassVar[tuple[str, ...]] = ("identity",)
    discrete: ClassVar[bool] = False
    log_concave: ClassVar[bool] = False

    def check(self, outcome: Outcome) -> None:
        """Numbers that vary."""
        if np.ptp(outcome.y) == 0:
            outcome.refuse(np.ones(len(outcome.y), dtype=bool), "values that vary were expected", "Is it the column?")

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """Log density and derivatives; with z = (y - eta) / sigma, all through s = z / (nu + z^2)."""
        sigma, nu = np.exp(psi)
        z = (outcome.y - eta) / sigma
        w = 1 / (nu + z**2)
        value = _constant(nu) - psi[0] - 0.5 * (nu + 1) * np.log1p(z**2 / nu)
        first = (nu + 1) / sigma * z * w
        second = -(nu + 1) / sigma**2 * w * (1 - 2 * z**2 * w)
        third = -2 * (nu + 1) / sigma**3 * z * w**2 * (3 - 4 * z**2 * w)
        return Jet(value, first, second, third)

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By log sigma and log nu."""
        sigma, nu = np.exp(psi)
        z = (outcome.y - eta) / sigma
        w = 1 / (nu + z**2)
        s = z**2 * w
        by_sigma = (
            (nu + 1) * s - 1,
            -2 * nu * (nu + 1) / sigma * z * w**2,
            2 * nu * (nu + 1) / sigma**2 * w**3 * (nu - 3 * z**2),
        )
        by_nu = (
            rising_slope(nu / 2, np.asarray(0.5)) + 0.5 * (s - nu * (log1p_minus(z**2 / nu) + z**2 / nu * s)),
            nu * z * w**2 * (z**2 - 1) / sigma,
            -nu / sigma**2 * w**2 * ((nu - z**2) * (1 - 2 * (nu + 1) * w) + nu + 1),
        )
        return Dispersion(*(np.stack(pair) for pair in zip(by_sigma, by_nu, strict=True)))

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Numbers."""
        return eta + np.exp(psi[..., 0]) * rng.standard_t(np.exp(psi[..., 1]), size=eta.shape)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Eta itself."""
        return eta

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """The scale's square times nu / (nu - 2); infinite with two degrees of freedom or fewer."""
        nu = dispersion[:, 1]
        with np.errstate(divide="ignore"):
            more = np.where(nu > 2, nu / np.maximum(nu - 2, 0.0), np.inf)
        return dispersion[:, 0] ** 2 * more + 0 * mean

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """The same."""
        return self.variance(mean, dispersion), "sigma^2 nu / (nu - 2), infinite where nu is 2 or less"

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """The scale and the degrees of freedom."""
        return ("sigma", "nu")

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """Half the SD of y; 6 degrees of freedom."""
        return np.array([np.log(0.5 * outcome.y.std()), np.log(6.0)])

    def dispersion_bounds(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Degrees of freedom from 0.1 to where it is a normal."""
        return np.array([-np.inf, np.log(0.1)]), np.array([np.inf, np.log(1e4)])

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """A scale like the SD of y; few or many degrees of freedom."""
        if label == "nu":
            return Prior("Gamma", alpha=2, beta=0.1), "degrees of freedom: few or many (Juarez & Steel 2010)"
        scale = float(f"{outcome.y.std():.3g}")
        return Prior("HalfStudentT", nu=3, sigma=scale), f"scale of the rows: more likely below the SD of y, {scale:g}"

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """The median."""
        return float(np.median(outcome.y)), "median of y"

    def unit(self, outcome: Outcome) -> tuple[float, str]:
        """The SD of y."""
        return float(np.std(outcome.y, ddof=1)), "SD of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "measurement with outliers (Student's t)"

    @property
    def no_residual(self) -> str:
        """Sigma is a scale."""
        return "sigma is the scale of the t distribution, not an SD; rows have no e of their own."


def _constant(nu: float) -> float:
    """log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(pi nu) / 2."""
    return float(rising(nu / 2, np.asarray(0.5)) - 0.5 * np.log(2 * np.pi))
