"""Bulk ESS and R-hat of every parameter and random effect, by ArviZ for every package alike."""

from __future__ import annotations

import re

import numpy as np


def as_columns(draws: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Flatten variables (chain, draw, ...) to (chain, draw, parameter); only what is free of correlations.

    Examples
    --------
    >>> as_columns({"sigma": np.zeros((4, 9)), "corr_u2": np.zeros((4, 9, 2, 2))})[0]
    ['sigma', 'corr_u2[2]']
    """
    names, parts = [], []
    for name, values in draws.items():
        flat = values.reshape(*values.shape[:2], -1)
        kept = np.arange(flat.shape[2])
        if name.startswith("corr_"):
            r = values.shape[-1]
            kept = np.array([i * r + j for i in range(r) for j in range(i)])
        names += [name if flat.shape[2] == 1 else f"{name}[{k}]" for k in kept]
        parts.append(flat[:, :, kept])
    return names, np.concatenate(parts, axis=2)


def correlations(names: list[str], columns: np.ndarray) -> np.ndarray:
    """Replace the covariances that Stan packages return, Sigma[g:a,b], by correlations.

    Examples
    --------
    >>> names = ["Sigma[g:a,a]", "Sigma[g:b,a]", "Sigma[g:b,b]"]
    >>> correlations(names, np.array([[[4.0, 3.0, 9.0]]])).round(3).tolist()
    [[[4.0, 0.5, 9.0]]]
    """
    at = {name: k for k, name in enumerate(names)}
    out = columns.copy()
    for name, k in at.items():
        found = re.fullmatch(r"Sigma\[(.*):([^:,]*),([^,]*)\]", name)
        if found and found[2] != found[3]:
            a, b = (at[f"Sigma[{found[1]}:{effect},{effect}]"] for effect in found.groups()[1:])
            out[:, :, k] = columns[:, :, k] / np.sqrt(columns[:, :, a] * columns[:, :, b])
    return out


def diagnose(names: list[str], columns: np.ndarray, with_rhat: bool = True) -> dict:
    """Return the least bulk ESS, the parameter that has it, and the largest R-hat.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(4, 500, 2))
    >>> result = diagnose(["a", "b"], x)
    >>> bool(result["min_ess"] > 1000 and result["max_rhat"] < 1.01), result["parameters"]
    (True, 2)
    """
    from arviz_stats.base import array_stats

    columns = correlations(names, columns)
    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = np.asarray(array_stats.ess(columns, **axes, method="bulk"))
    rhat = np.asarray(array_stats.rhat(columns, **axes)) if with_rhat else np.ones(1)
    ess = np.where(np.isfinite(ess), ess, 0.0)  # a parameter that never moved
    rhat = np.where(np.isfinite(rhat), rhat, np.inf)
    return {
        "parameters": len(names),
        "draws": int(columns.shape[0] * columns.shape[1]),
        "min_ess": float(ess.min()),
        "least": names[int(ess.argmin())],
        "max_rhat": float(rhat.max()),
    }
