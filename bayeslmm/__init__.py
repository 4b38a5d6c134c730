"""Bayesian multilevel linear mixed models: describe a hierarchy once; get the joint model, the marginal, ML, REML.

Nothing heavy is imported before it is needed: PyMC only when a PyMC model is built or NUTS runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bayeslmm.support.cache_folder import prepare as _prepare_cache

if TYPE_CHECKING:
    from bayeslmm.comparison.comparison import Comparison, compare
    from bayeslmm.comparison.models import ModelComparison, compare_models
    from bayeslmm.criticism.sensitivity import add_log_densities
    from bayeslmm.data.known_matrix import KnownMatrix
    from bayeslmm.data.pedigree import pedigree_precision
    from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
    from bayeslmm.distributions.prior import Prior
    from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, PriorError, SamplingError, SavedError
    from bayeslmm.families.beta import Beta
    from bayeslmm.families.binomial import Binomial
    from bayeslmm.families.cumulative import Cumulative
    from bayeslmm.families.gamma import Gamma
    from bayeslmm.families.negative_binomial import NegativeBinomial
    from bayeslmm.families.negative_binomial1 import NegativeBinomial1
    from bayeslmm.families.poisson import Poisson
    from bayeslmm.families.student_t import StudentT
    from bayeslmm.gallery import example, example_data
    from bayeslmm.glmm import GLMM
    from bayeslmm.lmm import LMM
    from bayeslmm.loading import Saved, load
    from bayeslmm.model import Model
    from bayeslmm.pymc_models.mixed_normal import MixedNormal
    from bayeslmm.sources.source import Source
    from bayeslmm.theory import density
    from bayeslmm.theory.mixed_model_equations import MixedModelEquations, mixed_model_equations
    from bayeslmm.theory.same_marginal import SameMarginal, same_marginal

__version__ = "0.1.0"

_HOME = {
    "BayesLMMError": "errors",
    "Beta": "families.beta",
    "Binomial": "families.binomial",
    "Comparison": "comparison.comparison",
    "Cumulative": "families.cumulative",
    "DataError": "errors",
    "DescriptionError": "errors",
    "GLMM": "glmm",
    "Gamma": "families.gamma",
    "Hierarchy": "description.hierarchy",
    "KnownMatrix": "data.known_matrix",
    "LMM": "lmm",
    "Level": "description.levels",
    "MixedModelEquations": "theory.mixed_model_equations",
    "MixedNormal": "pymc_models.mixed_normal",
    "Model": "model",
    "ModelComparison": "comparison.models",
    "NegativeBinomial": "families.negative_binomial",
    "NegativeBinomial1": "families.negative_binomial1",
    "Poisson": "families.poisson",
    "Prior": "distributions.prior",
    "PriorError": "errors",
    "Residual": "description.levels",
    "SameMarginal": "theory.same_marginal",
    "SamplingError": "errors",
    "Saved": "loading",
    "SavedError": "errors",
    "Source": "sources.source",
    "StudentT": "families.student_t",
    "Sums": "sums",
    "add_log_densities": "criticism.sensitivity",
    "compare": "comparison.comparison",
    "compare_models": "comparison.models",
    "example": "gallery",
    "example_data": "gallery",
    "load": "loading",
    "load_sums": "sums",
    "mixed_model_equations": "theory.mixed_model_equations",
    "pedigree_precision": "data.pedigree",
    "same_marginal": "theory.same_marginal",
}

__all__ = [
    "GLMM", "LMM", "BayesLMMError", "Beta", "Binomial", "Comparison", "Cumulative", "DataError", "DescriptionError",
    "Gamma", "Hierarchy", "KnownMatrix", "Level", "MixedModelEquations", "MixedNormal", "Model", "ModelComparison",
    "NegativeBinomial", "NegativeBinomial1", "Poisson", "Prior", "PriorError", "Residual", "SameMarginal",
    "SamplingError", "Saved", "SavedError", "Source", "StudentT", "Sums", "add_log_densities", "compare",
    "compare_models", "density", "example", "example_data", "load", "load_sums", "mixed_model_equations",
    "pedigree_precision",
    "same_marginal",
]  # fmt: skip


_prepare_cache()


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(import_module(f"bayeslmm.{_HOME[name]}"), name)
    elif name == "density":
        value = import_module("bayeslmm.theory.density")
    else:
        raise AttributeError(f"module 'bayeslmm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
