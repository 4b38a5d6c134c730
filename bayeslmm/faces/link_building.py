"""GLMM's marginal models and what compares them: PyMC's marginal, the table of approximations, an integral drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import pymc as pm


class LinkBuilding(LinkModel):
    """The effects integrated out, one call away."""

    def marginal(self, approximation: str = "auto", *, nodes: int | None = None) -> pm.Model:
        """Build the marginal model in PyMC: the effects are integrated out, by Laplace's approximation or quadrature.

        Parameters
        ----------
        approximation : {"auto", "laplace", "quadrature"}
            As in `ml`, whose ``approximation_error`` says how far Laplace's is off.
        nodes : int, optional
            Of the quadrature, for each effect; where it is left out, as many as it takes at the maximum of the
            likelihood and at SDs half as large again.

        Returns
        -------
        pymc.Model
            The joint's parameters, names and priors: ``beta``, ``sigma_u2``, ``corr_u2``, the family's own; ``y`` has
            the approximated log-likelihood with its gradient. Prior and posterior predictive draw new effects.

        Raises
        ------
        DescriptionError
            For a quadrature where levels are crossed, or groups have more than two effects.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> model = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").marginal()
        >>> sorted(variable.name for variable in model.free_RVs)
        ['beta', 'sigma_u2']
        """
        from bayeslmm.pymc_models.link_marginal import build_link_marginal

        return build_link_marginal(self.problem, self.priors, self.rule(approximation, nodes))
