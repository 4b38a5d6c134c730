"""The structures that a level may have, by name."""

from __future__ import annotations

from bayeslmm.covariances.effects.autoregressive import Autoregressive
from bayeslmm.covariances.effects.compound_symmetry import CompoundSymmetry
from bayeslmm.covariances.effects.diagonal import Diagonal
from bayeslmm.covariances.effects.entirely_known import EntirelyKnown
from bayeslmm.covariances.effects.homogeneous_compound_symmetry import HomogeneousCompoundSymmetry
from bayeslmm.covariances.effects.structure import EffectStructure
from bayeslmm.covariances.effects.unstructured import Unstructured

EFFECTS: dict[str, EffectStructure] = {
    one.name: one
    for one in (
        Unstructured(),
        Diagonal(),
        CompoundSymmetry(),
        HomogeneousCompoundSymmetry(),
        Autoregressive(),
    )
}

ENTIRELY_KNOWN = EntirelyKnown()
