"""The structures of R that there are, one line each."""

from __future__ import annotations

from bayeslmm.covariances.residuals.ar1 import AR1
from bayeslmm.covariances.residuals.car1 import ContinuousAR1
from bayeslmm.covariances.residuals.cs import CompoundSymmetry
from bayeslmm.covariances.residuals.iid import Independent
from bayeslmm.covariances.residuals.known import Known
from bayeslmm.covariances.residuals.strata import Strata
from bayeslmm.covariances.residuals.structure import ResidualStructure

STRUCTURES: dict[str, type[ResidualStructure]] = {
    structure.name: structure
    for structure in (
        Independent,
        Strata,
        AR1,
        ContinuousAR1,
        CompoundSymmetry,
        Known,
    )
}
