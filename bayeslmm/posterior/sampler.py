"""What a sampler is: something that runs on a model with settings, and says how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xarray as xr

from bayeslmm.model import Model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many draws are wanted, and how.

    Attributes
    ----------
    draws, tune, chains : int
        Kept and tuning draws per chain.
    seed : numpy.random.SeedSequence
    target_accept : float
        What NUTS adapts its step size to.
    residuals : bool
        Whether the draws have e.
    progress : bool
    """

    draws: int
    tune: int
    chains: int
    seed: np.random.SeedSequence
    target_accept: float
    residuals: bool
    progress: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a run.

    Attributes
    ----------
    tree : xarray.DataTree
    compiling : float
        Seconds that compiling took, the kernels' apart.
    trouble : str
        Why the draws should be those of another sampler; "" where nothing speaks against them.
    note : str
        What else there is to say.
    """

    tree: xr.DataTree
    compiling: float = 0.0
    trouble: str = ""
    note: str = ""


class Sampler(Protocol):
    """A way to draw from the posterior; a new one is a class like these and a line in `sampling`."""

    name: str

    def run(self, model: Model, settings: Settings) -> Run:
        """Draw; SamplingError where what came back is no sample."""
        ...
