"""Fits of simulated data on one of three paths, each by `LMM.sample`, and the ranks of the truths."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from .link_studies import LinkStudy
from .ranks import holm, uniformity
from .studies import Study, Values

TOP = 99
"""Draws kept of a posterior, nearly independent: ranks are 0 to 99."""

PATHS: dict[str, dict[str, Any]] = {
    "collapsed": {"variant": "marginal", "sampler": "collapsed"},
    "nuts": {"variant": "marginal", "sampler": "nuts", "tune": 500, "target_accept": 0.95},
    "joint": {"variant": "joint", "sampler": "nuts", "tune": 500, "target_accept": 0.95},
}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Ranks of every quantity over the fits of one study on one path.

    `doubted` counts the fits of which the sampler itself says that they may be wrong (Pareto k, divergences). They
    stay in: leaving them out would bias the ranks of the others.
    """

    study: str
    path: str
    ranks: dict[str, np.ndarray] = field(repr=False)
    doubted: int

    def table(self) -> pd.DataFrame:
        """One row a quantity: mean rank as a share (0.5 expected), its z, the p-value of uniformity."""
        rows = []
        for name, ranks in self.ranks.items():
            share = (ranks.mean() + 0.5) / (TOP + 1)
            z = (share - 0.5) * np.sqrt(12 * ranks.size)
            rows.append((self.study, self.path, name, ranks.size, share, z, uniformity(ranks, TOP)))
        return pd.DataFrame(rows, columns=["model", "path", "quantity", "fits", "mean rank", "z", "p"])


def calibrate(
    study: Study | LinkStudy, path: str, fits: int, seed: int, report: Callable[[int], None] = lambda done: None
) -> Calibration:
    """Simulate and fit `fits` times; the same seed gives the same data on every path."""
    ranks: dict[str, list[int]] = {}
    doubted = 0
    with nullcontext() if path == "collapsed" else compiled_once():
        for k in range(fits):
            rng = np.random.default_rng([seed, zlib.crc32(study.name.encode()), k])
            truth, y = study.simulate(rng)
            draws, doubt = posterior(study, path, y, int(rng.integers(2**31)))
            doubted += doubt
            true, drawn = study.quantities(truth, y), study.quantities(draws, y)
            for name, value in true.items():
                if not np.isfinite(drawn[name]).all():
                    raise FloatingPointError(f"{study.name}, {path}: {name} of fit {k} has draws that are not finite.")
                ranks.setdefault(name, []).append(int((drawn[name] < value[0]).sum()))
            report(k + 1)
    return Calibration(
        study=study.name, path=path, ranks={name: np.array(r) for name, r in ranks.items()}, doubted=doubted
    )


def posterior(study: Study | LinkStudy, path: str, y: np.ndarray, seed: int) -> tuple[Values, bool]:
    """Thinned draws of one posterior, and whether the sampler doubts them."""
    lmm = study.lmm(y)
    for level, own in zip(study.levels, lmm.design.levels, strict=True):
        assert level.name == own.name
        assert np.array_equal(level.index, own.index), "groups in another order"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # short runs are meant
        tree = lmm.sample(draws=TOP * study.thin, chains=1, random_seed=seed, progress=False, **PATHS[path])
    draws = {str(name): x.to_numpy()[0, study.thin - 1 :: study.thin] for name, x in tree["posterior"].items()}
    diverging = int(tree["sample_stats"]["diverging"].sum())
    return draws, diverging > 0 or tree.attrs.get("pareto_k", 0.0) > 0.7


@contextmanager
def compiled_once() -> Iterator[None]:
    """NUTS as `LMM.sample` runs it, but a model whose variables have been seen before gets new data, not a compiler."""
    import nutpie
    from pymc.model.transform import optimization

    compile_model, known = nutpie.compile_pymc_model, {}

    def compile_or_swap(model, **options):
        key = tuple(sorted(model.named_vars))
        if key not in known:
            known[key] = compile_model(model, **options)
        return known[key].with_data(y_data=model["y_data"].get_value())

    with (
        mock.patch.object(nutpie, "compile_pymc_model", compile_or_swap),
        mock.patch.object(optimization, "freeze_dims_and_data", lambda model: model),
    ):
        yield


def judge(calibrations: list[Calibration], level: float = 0.01) -> pd.DataFrame:
    """All quantities, their p-values corrected for being many, and whether each passes."""
    table = pd.concat([one.table() for one in calibrations], ignore_index=True)
    table["corrected"] = holm(table["p"].to_numpy())
    table["passes"] = table["corrected"] >= level
    return table
