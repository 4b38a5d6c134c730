"""Homogeneous compound symmetry: one SD, one correlation of all pairs."""

from __future__ import annotations

from bayeslmm.covariances.effects.compound_symmetry import CompoundSymmetry
from bayeslmm.covariances.effects.one_sd import OneSD


class HomogeneousCompoundSymmetry(OneSD, CompoundSymmetry):
    """``homcs(0 + f | g)``: the effects of a group are exchangeable, as a random intercept and f within g make them.

    Source: glmmTMB (Brooks et al. 2017) has it under this name; lme4 2.0 as ``cs(..., hom = TRUE)``.
    """

    name = "homcs"
    text = "compound symmetry with one SD"
