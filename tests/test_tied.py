"""`(x || g)` with x far from zero: intercepts and slopes are unrelated at a point that no row is near.

What the slopes make of the distance is then the intercepts' to explain, so that SDs of slopes matter at 1e-7 and at 1,
along a ridge on which they and the intercepts' say nearly the same. The oracle is the closed form for two effects,
centred, in which nothing cancels, with a search of its own over a grid.
"""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as blm
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.independence import find_modes

TIED = {"one term": "y ~ x + (x || g)", "two terms": "y ~ x + (1 | g) + (0 + x | g)"}


def made(kind: str, shift: float, groups: int, seed: int) -> dict[str, np.ndarray]:
    """Six rows a group; effects that are unrelated at the mean of x, some, or none."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), 6)
    x = np.tile(np.arange(6.0), groups) if seed % 2 else rng.integers(0, 8, g.size).astype(float)
    u, z, e = rng.normal(size=(groups, 2)), x - x.mean(), rng.normal(size=g.size)
    y = {
        "both": 5 + u[g, 0] + 0.5 * u[g, 1] * z + 0.3 * z + 0.5 * e,
        "slopes": 3 + 0.8 * u[g, 1] * z + 0.5 * e,
        "intercepts": 2 + u[g, 0] + 0.2 * z + e,
        "little": 1 + 0.3 * u[g, 0] + 0.02 * u[g, 1] * z + 0.3 * e,
        "nothing": e,
    }[kind]
    return {"y": y, "x": x + shift, "g": np.array([f"g{k}" for k in g])}


class Closed:
    """Profiled log likelihoods at relative SDs a of intercepts and b of slopes.

    With G = [a^2 + c^2 b^2, c b^2; c b^2, b^2] of the effects at the mean c, A = Z'Z of a group and B = Z'[X y],
    |I + G A| = 1 + tr(G A) + a^2 b^2 |A|, and (G^-1 + A)^-1 = (G + a^2 b^2 adj A) / |I + G A|.
    """

    def __init__(self, data: dict[str, np.ndarray], reml: bool):
        x, y, g = data["x"], data["y"], np.unique(data["g"], return_inverse=True)[1]
        self.c, self.reml, self.n = float(x.mean()), reml, y.size
        W = np.column_stack([np.ones(y.size), x - self.c, y])
        Z = [W[g == k, :2] for k in range(g.max() + 1)]
        self.A = np.stack([z.T @ z for z in Z])
        self.B = np.stack([z.T @ W[g == k] for k, z in enumerate(Z)])
        self.C = W.T @ W

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a2, b2, c = a**2, b**2, self.c
        G = np.stack([np.stack([a2 + c**2 * b2, c * b2], -1), np.stack([c * b2, b2], -1)], -2)[..., None, :, :]
        adjugate = np.array([[0, 1], [-1, 0]]) @ np.swapaxes(self.A, -1, -2) @ np.array([[0, -1], [1, 0]])
        both = (a2 * b2)[..., None]
        det = 1 + (G * self.A).sum(axis=(-1, -2)) + both * np.linalg.det(self.A)
        inner = (G + both[..., None, None] * adjugate) / det[..., None, None]
        T = self.C - np.einsum("kiw,...kij,kjv->...wv", self.B, inner, self.B)
        (p, q, c0), (_, r, c1), (_, _, s) = np.moveaxis(T, (-2, -1), (0, 1))
        with np.errstate(all="ignore"):  # far out nothing is left
            rss = s - (r * c0**2 - 2 * q * c0 * c1 + p * c1**2) / (p * r - q**2)
            degrees = self.n - 2 * self.reml
            value = np.log(det).sum(axis=-1) + degrees * (np.log(2 * np.pi * rss / degrees) + 1)
            value = -0.5 * (value + (np.log(p * r - q**2) if self.reml else 0.0))
        return np.where(np.isfinite(value) & (det.max(axis=-1) < 1e12), value, -np.inf)

    def best(self) -> float:
        """The maximum: of a wide grid and finer and finer ones around its peaks, and of the two edges."""
        wide = np.linspace(-3, np.log10(self.c) + 2, 40), np.linspace(-3 - np.log10(self.c), 2, 60)
        values = self._on(*wide)
        padded = np.pad(values, 1, constant_values=-np.inf)
        beside = [padded[i : i + 40, j : j + 60] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
        peaks = np.argwhere(values >= np.max(beside, axis=0))
        found = [float(values.max()), float(self(np.zeros(1), np.zeros(1))[0])]
        for i, j in sorted(peaks.tolist(), key=lambda at: -values[tuple(at)])[:4]:
            at, size = np.array([wide[0][i], wide[1][j]]), 0.2
            for _ in range(16):
                axes = [np.linspace(m - 2 * size, m + 2 * size, 9) for m in at]
                near = self._on(*axes)
                row, column = np.unravel_index(np.argmax(near), near.shape)
                at, size = np.array([axes[0][row], axes[1][column]]), size / 1.7
            found.append(float(near.max()))
        for edge in (0, 1):  # one of the two SDs is zero
            along = wide[edge]
            for _ in range(12):
                zero, other = np.zeros(along.size), 10**along
                line = self(other, zero) if edge == 0 else self(zero, other)
                middle, gap = along[np.argmax(line)], along[1] - along[0]
                along = np.linspace(middle - gap, middle + gap, 21)
            found.append(float(line.max()))
        return max(found)

    def _on(self, log_a: np.ndarray, log_b: np.ndarray) -> np.ndarray:
        a, b = np.meshgrid(10**log_a, 10**log_b, indexing="ij")
        return self(a, b)


@pytest.mark.parametrize(("shift", "reml"), [(1e3, False), (1e6, True)])
@pytest.mark.parametrize("kind", ["both", "slopes", "intercepts", "little", "nothing"])
@pytest.mark.parametrize("terms", TIED)
def test_the_maximum_is_found_and_called_one(terms, kind, shift, reml):
    for groups, seed in ((4, 1), (12, 2)):
        check(terms, made(kind, shift, groups, seed), reml)


@pytest.mark.parametrize("kind", ["both", "intercepts"])
@pytest.mark.parametrize("terms", TIED)
def test_so_it_is_with_many_groups(terms, kind):
    check(terms, made(kind, 1e5, 40, 3), False)


def check(terms: str, data: dict[str, np.ndarray], reml: bool) -> None:
    lmm = blm.LMM(TIED[terms], data)
    fit = lmm.reml() if reml else lmm.ml()
    oracle = Closed(data, reml)
    a, b = (np.array([abs(x)]) for x in np.concatenate([np.diag(lam) for lam in fit.lambdas]))
    assert fit.loglik == pytest.approx(float(oracle(a, b)[0]), abs=1e-6)
    assert fit.loglik > oracle.best() - 1e-5
    assert fit.status.name in ("converged", "singular", "flat"), fit.status


def test_an_sd_that_matters_is_not_called_zero():
    """Slopes of SD 1e-6 make at 1e6 what intercepts of SD 1 would."""
    fit = blm.LMM(TIED["one term"], made("intercepts", 1e6, 12, 3)).ml()
    oracle, zero = Closed(made("intercepts", 1e6, 12, 3), False), np.zeros(1)
    a, b = np.diag(fit.lambdas[0])
    lost = [fit.loglik - float(oracle(*at)[0]) for at in ((zero, np.array([b])), (np.array([a]), zero))]
    for label, loss in zip(("sigma_u2[Intercept]", "sigma_u2[x]"), lost, strict=True):
        assert (label in fit.boundary) == (loss < 1e-6)


def test_the_posterior_has_its_two_modes():
    """Slopes that vary by 0.8 far from where they are unrelated to the intercepts: 9 % of the mass are there."""
    lmm = blm.LMM(TIED["one term"], made("slopes", 1e3, 4, 1))
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    assert len(find_modes(posterior)) == 2
    axes = np.linspace(-2, 1.5, 40), np.linspace(-5, 12, 70), np.linspace(-13, 5, 70)
    at = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    density = posterior.evaluate(at)[0]
    weights = np.exp(density - density.max())
    share = weights[at[:, 2] > -3].sum() / weights.sum()
    tree = lmm.sample(draws=1000, chains=2, random_seed=1, progress=False)
    drawn = (np.log(tree["posterior"]["sigma_u2"].sel(u2_effect="x").to_numpy()) > -3).mean()
    assert drawn == pytest.approx(share, abs=4 * np.sqrt(share / 1000))
