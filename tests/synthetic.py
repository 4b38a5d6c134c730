"""Posteriors made up around a REML fit, with known moments: what `LMM.sample` returns, without sampling."""

from pathlib import Path

import arviz as az
import numpy as np

from bayeslmm.comparison.comparison import compare_posteriors
from bayeslmm.design.parameters import coords, dims

MODELS = Path(__file__).parent.parent / "models"
CHAINS, DRAWS = 4, 500


def gamma(rng, mean, sd, shape=()):
    """Positive draws with this mean and SD."""
    k = (mean / sd) ** 2
    return rng.gamma(k, mean / k, size=(CHAINS, DRAWS, *shape))


def posterior(lmm, seed, *, seconds=2.0, compiling=0.0, sds=None, diverging=None, effects=True, beta=0.0):
    """Independent draws around REML; SDs are gamma, with mean and SD as given or REML's and a fifth."""
    rng = np.random.default_rng(seed)
    design, fit = lmm.design, lmm.reml()
    around = {"sigma": (fit.sigma, fit.sigma / 10)} | (sds or {})
    noise = fit.fixef_se.to_numpy() * rng.normal(size=(CHAINS, DRAWS, design.p))
    values = {"beta": fit.beta + noise + beta, "sigma": gamma(rng, *around["sigma"])}
    for level, sd in zip(design.levels, fit.sds, strict=True):
        name = f"sigma_{level.name}"
        if level.r == 1:
            s = max(sd[0], 0.1)
            values[name] = gamma(rng, *around.get(name, (s, 0.2 * s)))
        else:
            values[name] = np.stack([gamma(rng, max(s, 0.1), 0.2 * max(s, 0.1)) for s in sd], axis=-1)
        if level.correlated:
            r = np.tanh(0.3 * rng.normal(size=(CHAINS, DRAWS)))
            values[f"corr_{level.name}"] = np.stack(
                [np.stack([np.ones_like(r), r], -1), np.stack([r, np.ones_like(r)], -1)], -2
            )
        if effects:
            shape = (level.m,) if level.r == 1 else (level.m, level.r)
            values[level.name] = rng.normal(size=(CHAINS, DRAWS, *shape))
    if diverging is None:
        diverging = np.zeros((CHAINS, DRAWS), dtype=bool)
    every, names = dims(design), coords(design)
    tree = az.from_dict(
        {
            "posterior": values,
            "sample_stats": {"diverging": diverging},
        },
        dims={k: list(every[k]) for k in values if every[k]},
        coords={d: names[d] for k in values for d in every[k]},
        check_conventions=False,  # a level may be called sample
    )
    tree.attrs |= {"seconds": seconds, "seconds_compiling": compiling, "seconds_sampling": seconds - compiling}
    tree.attrs |= {"sampler": "nuts", "random_seed": 7}
    tree.attrs |= {"draws": DRAWS, "tune": DRAWS, "chains": CHAINS}
    return tree


def both(lmm, seed=1, random_effects=False, joint=None, marginal=None, **options):
    joint = posterior(lmm, seed, **options | (joint or {}))
    marginal = posterior(lmm, seed + 1, **options | (marginal or {}))
    return compare_posteriors(lmm, {"joint": joint, "marginal": marginal}, random_effects=random_effects)
