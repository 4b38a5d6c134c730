"""Bayesian multilevel linear mixed models: describe a hierarchy once; get the joint model, the marginal, ML, REML.

Nothing heavy is imported before it is needed: PyMC only when a PyMC model is built or NUTS runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bayeslmm.cachefolder import prepare as _prepare_cache

if TYPE_CHECKING:
    from bayeslmm import density
    from bayeslmm.comparison import Comparison, compare
    from bayeslmm.equations import MixedModelEquations, mixed_model_equations
    from bayeslmm.equivalence import SameMarginal, same_marginal
    from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, PriorError, SamplingError
    from bayeslmm.hierarchy import Hierarchy, Level, Residual
    from bayeslmm.known import KnownMatrix
    from bayeslmm.lmm import LMM
    from bayeslmm.mixednormal import MixedNormal
    from bayeslmm.prior import Prior
    from bayeslmm.sensitivity import add_log_densities

__version__ = "0.1.0"

_HOME = {
    "BayesLMMError": "errors",
    "Comparison": "comparison",
    "DataError": "errors",
    "DescriptionError": "errors",
    "Hierarchy": "hierarchy",
    "KnownMatrix": "known",
    "LMM": "lmm",
    "Level": "hierarchy",
    "MixedModelEquations": "equations",
    "MixedNormal": "mixednormal",
    "Prior": "prior",
    "PriorError": "errors",
    "Residual": "hierarchy",
    "SameMarginal": "equivalence",
    "SamplingError": "errors",
    "add_log_densities": "sensitivity",
    "compare": "comparison",
    "mixed_model_equations": "equations",
    "same_marginal": "equivalence",
}

__all__ = [
    "LMM", "BayesLMMError", "Comparison", "DataError", "DescriptionError", "Hierarchy", "KnownMatrix", "Level",
    "MixedModelEquations", "MixedNormal", "Prior", "PriorError", "Residual", "SameMarginal", "SamplingError",
    "add_log_densities", "compare", "density", "mixed_model_equations", "same_marginal",
]  # fmt: skip


_prepare_cache()


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(import_module(f"bayeslmm.{_HOME[name]}"), name)
    elif name == "density":
        value = import_module("bayeslmm.density")
    else:
        raise AttributeError(f"module 'bayeslmm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
