"""What a posterior is worth, judged once and from its tree alone: R-hat, effective draws, Pareto k, divergences.

R-hat and the effective sample size are ArviZ's rank-normalised ones, written here since importing ArviZ takes longer
than sampling a small posterior.

Source: Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), doi:10.1214/20-BA1221.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

RHAT_LIMIT = 1.01
ESS_LIMIT = 400
PARETO_LIMIT = 0.7
DIVERGENT = 0.001  # share of the draws
FEWEST = 1000  # draws of all chains below which R-hat and ESS are noise

_PARAMETER = re.compile(r"beta|sigma|rho|sigma_ratio|sigma_u\d+|corr_u\d+|alpha|nu|threshold")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What speaks against a posterior, in words; nothing does where both are empty.

    Attributes
    ----------
    doubts : tuple of str
        What is measurably wrong.
    unknown : str
        Why there are too few draws to judge, or "".
    """

    doubts: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def trusted(self) -> bool:
        """Whether the posterior can be quoted."""
        return not self.doubts and not self.unknown

    @property
    def text(self) -> str:
        """Everything that speaks against it, as one line."""
        return "; ".join([*self.doubts, *([self.unknown] if self.unknown else [])])


def judge(tree: xr.DataTree) -> Judgement:
    """Judge a posterior by its parameters, its divergences and the Pareto k of its proposal.

    Parameters
    ----------
    tree : xarray.DataTree
        As `LMM.sample` returns it.

    Returns
    -------
    Judgement
        R-hat above 1.01, fewer than 400 effective draws, a Pareto k of 0.7 or more, more than one divergence in a
        thousand draws, or a mode that no draw came near, are doubts. Below 1,000 draws in all, or with one chain,
        nothing can be judged, and that is said.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> judge(lmm.sample(random_seed=1, progress=False)).trusted
    True
    >>> judge(lmm.sample(draws=50, random_seed=1, progress=False)).unknown
    'with 200 draws R-hat and effective sample size are noise: they take 1000 or more'
    """
    names, draws = parameters(tree)
    chains, length = draws.shape[:2]
    doubts, unknown = [], ""
    few = chains * length < FEWEST or length < 8
    if chains < 2:
        unknown = "R-hat cannot be computed (it takes two chains that move)"
    elif few:
        unknown = f"with {chains * length} draws R-hat and effective sample size are noise: they take {FEWEST} or more"
    else:
        doubts += _mixing(names, draws)
    bad = divergent(tree)
    if not few and bad is not None and bad.sum() > DIVERGENT * bad.size:
        share = 100 * bad.mean()
        doubts.append(f"{bad.sum()} of {bad.size} draws diverged ({share:.2g} %), which leaves out a part of it")
    if missed := str(tree.attrs.get("unvisited", "")):
        doubts.append(missed)
    k = float(tree.attrs.get("pareto_k", np.nan))
    if k >= PARETO_LIMIT:
        doubts.append(f"the weights of its proposal have a Pareto k of {k:.2f}, {PARETO_LIMIT} being the limit")
    return Judgement(doubts=tuple(doubts), unknown=unknown)


def _mixing(names: list[str], draws: np.ndarray) -> list[str]:
    """What R-hat and the effective sample size have against the draws (chain, draw, parameter)."""
    r, n = rhat(draws), ess(draws)
    if np.isnan(r).any():
        return [f"R-hat cannot be computed ({names[int(np.argmax(np.isnan(r)))]} does not move)"]
    out = []
    if r.max(initial=1.0) > RHAT_LIMIT:
        out.append(f"R-hat reaches {r.max():.3f} ({names[int(r.argmax())]}), {RHAT_LIMIT} being the limit")
    if n.min(initial=np.inf) < ESS_LIMIT:
        out.append(
            f"the smallest effective sample size is {n.min():.0f} ({names[int(n.argmin())]}), {ESS_LIMIT} being wanted"
        )
    return out


def divergent(tree: xr.DataTree) -> np.ndarray | None:
    """Which draws diverged (chain, draw), or None for a sampler that has no such thing."""
    if "sample_stats" not in tree.children or "diverging" not in tree["sample_stats"].data_vars:
        return None
    return tree["sample_stats"].to_dataset()["diverging"].transpose("chain", "draw", ...).values.astype(bool)


def parameters(tree: xr.DataTree) -> tuple[list[str], np.ndarray]:
    """Names and draws (chain, draw, parameter) of all but the random effects and the residuals."""
    posterior = tree["posterior"].to_dataset()
    names: list[str] = []
    columns = [np.zeros((posterior.sizes["chain"], posterior.sizes["draw"], 0))]
    for name in map(str, posterior.data_vars):
        if not _PARAMETER.fullmatch(name):
            continue
        variable = posterior[name].transpose("chain", "draw", ...)
        labels, values = _entries(name, variable)
        names += labels
        columns.append(values)
    return names, np.concatenate(columns, axis=-1)


def _entries(name: str, variable: Any) -> tuple[list[str], np.ndarray]:
    """Labels and draws of a variable's entries; of a matrix of correlations those below the diagonal."""
    x = np.asarray(variable.values, dtype=float)
    if x.ndim == 2:
        return [name], x[..., None]
    labels = [str(label) for label in variable[variable.dims[2]].values]
    if x.ndim == 3:
        return [f"{name}[{label}]" for label in labels], x
    pairs = [(i, j) for i in range(1, len(labels)) for j in range(i)]
    names = [f"{name}[{labels[j]}, {labels[i]}]" for i, j in pairs]
    return names, x[..., [i for i, _ in pairs], [j for _, j in pairs]]


# R-hat and effective sample size -----------------------------------------------------------------------------------


def rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat (k,), the larger of those of location and of spread, from draws (chain, draw, k).

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(4, 500, 1))
    >>> bool(rhat(x)[0] < 1.01), bool(rhat(x + np.arange(4)[:, None, None])[0] > 1.5)
    (True, True)
    """
    halves = _split(draws)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.fmax(_plain_rhat(_normal_scores(halves)), _plain_rhat(_normal_scores(folded)))


def ess(draws: np.ndarray) -> np.ndarray:
    """Bulk effective sample size (k,) from draws (chain, draw, k).

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(4, 500, 1))
    >>> bool(1500 < ess(x)[0] < 2600)
    True
    """
    return np.array([_ess(one) for one in np.moveaxis(_normal_scores(_split(draws)), -1, 0)])


def _split(x: np.ndarray) -> np.ndarray:
    """Chains cut in halves; the middle draw of an odd number is left out."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


@lru_cache(maxsize=4)
def _scores(n: int) -> np.ndarray:
    """Normal scores of the ranks 1, 1.5, 2, ..., n (Blom's offset): ties have ranks between whole numbers."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((1 + i / 2 - 0.375) / (n + 0.25)) for i in range(2 * n - 1)])


def _normal_scores(x: np.ndarray) -> np.ndarray:
    """Draws (chain, draw, k) replaced by the normal scores of their ranks, ties sharing the middle one."""
    n = x.shape[0] * x.shape[1]
    scores = _scores(n)
    out = np.empty_like(x)
    for k in range(x.shape[2]):
        _, inverse, counts = np.unique(x[..., k], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)  # ranks of a run of ties: last - counts + 1, ..., last
        out[..., k] = scores[(2 * last - counts - 1)[inverse]].reshape(x.shape[:2])
    return out


def _plain_rhat(x: np.ndarray) -> np.ndarray:
    n = x.shape[1]
    within = x.var(axis=1, ddof=1).mean(axis=0)
    between = n * x.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((between / within + n - 1) / n)


def _ess(x: np.ndarray) -> float:
    """Effective sample size of draws (chain, draw): Geyer's initial monotone sequence of autocorrelations."""
    m, n = x.shape
    if np.ptp(x) == 0:
        return float("nan")
    size = 1 << (2 * n - 1).bit_length()
    power = np.abs(np.fft.rfft(x - x.mean(axis=1, keepdims=True), size, axis=1)) ** 2
    autocovariance = np.fft.irfft(power, size, axis=1)[:, :n].mean(axis=0) / n
    within = autocovariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (x.mean(axis=1).var(ddof=1) if m > 1 else 0.0)
    rho = 1 - (within - autocovariance) / total
    rho[0] = 1.0
    sums = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)  # of neighbouring lags: positive and falling in theory
    negative = np.flatnonzero(sums < 0)
    last = negative[0] if negative.size else len(sums)
    tau = -1 + 2 * np.minimum.accumulate(sums[:last]).sum()
    if last < len(sums) and rho[2 * last] > 0:
        tau += rho[2 * last]  # as ArviZ: the even lag of the first pair that is left out
    return float(m * n / max(tau, 1 / np.log10(m * n)))
