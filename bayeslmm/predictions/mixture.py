"""Quantiles of mixtures of normal distributions."""

from __future__ import annotations

import numpy as np

STEPS = 100
NEAR = 1e-4  # a step of Newton's so small, in SDs of the narrowest component, leaves an error of about its square
ENOUGH = 1e-9  # of the mixture's SD: a bracket so narrow is a point


def quantiles(mean: np.ndarray, sd: np.ndarray, tails: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Quantiles (k,) of k mixtures with equal weights, one array for each of `tails`.

    Parameters
    ----------
    mean, sd : (k, draws) arrays
        Of the components; a mixture whose SDs are all zero is the sample of its means.

    Examples
    --------
    >>> low, high = quantiles(np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]]), (0.025, 0.975))
    >>> low.round(4).item(), high.round(4).item()
    (-1.96, 1.96)
    """
    spread = (sd > 0).any(axis=1)
    out = [np.empty(len(mean)) for _ in tails]
    if not spread.all():
        for one, q in zip(out, np.quantile(mean[~spread], tails, axis=1), strict=True):
            one[~spread] = q
    if spread.any():
        own = (mean, sd) if spread.all() else (mean[spread], sd[spread])
        for one, p in zip(out, tails, strict=True):
            one[spread] = _of_mixtures(*own, p)
    return tuple(out)


def _of_mixtures(mean: np.ndarray, sd: np.ndarray, p: float) -> np.ndarray:
    """By Newton's steps, kept within a bracket: the quantile lies between the least and the largest of the components'.

    Coordinates are each mixture's own, of mean zero and SD one.
    """
    from scipy.special import ndtr, ndtri

    centre, z = mean.mean(axis=1), float(ndtri(p))
    size = np.sqrt(mean.var(axis=1) + (sd**2).mean(axis=1))
    mean, sd = (mean - centre[:, None]) / size[:, None], np.maximum(sd / size[:, None], 1e-12)
    ends = mean + z * sd
    low, high = ends.min(axis=1), ends.max(axis=1)
    x, near = np.clip(z, low, high), NEAR * sd.min(axis=1)
    active = np.flatnonzero(high - low > ENOUGH)
    for _ in range(STEPS):
        if not active.size:
            break
        m, s = (mean, sd) if active.size == len(mean) else (mean[active], sd[active])
        t = x[active, None] - m
        t /= s
        excess = ndtr(t).mean(axis=1) - p
        np.square(t, out=t)
        t *= -0.5
        np.exp(t, out=t)
        t /= s
        slope = t.mean(axis=1) / np.sqrt(2 * np.pi)
        low[active] = np.where(excess < 0, x[active], low[active])
        high[active] = np.where(excess < 0, high[active], x[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            new = x[active] - excess / slope
        inside = (new > low[active]) & (new < high[active])
        new = np.where(inside, new, (low[active] + high[active]) / 2)
        done = inside & (np.abs(new - x[active]) < near[active]) | (high[active] - low[active] < ENOUGH)
        x[active] = new
        active = active[~done]
    return centre + size * x
