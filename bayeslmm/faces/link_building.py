"""GLMM's marginal models and what compares them: PyMC's marginal, the table of approximations, an integral drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pymc as pm
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.comparison.link_comparison import LinkComparison


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

    def compare(
        self,
        *,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        random_seed: int | None = None,
        variants: str | Iterable[str] = ("joint", "marginal"),
        progress: bool = True,
    ) -> LinkComparison:
        """Fit by each approximation of the integral, sample posteriors, and put all side by side, with words.

        Parameters
        ----------
        draws, tune, chains, random_seed, progress
            As in `sample`, the same for every posterior.
        variants : names among "joint", "marginal", "marginal laplace", "marginal quadrature"
            Which posteriors to sample; () for none.

        Returns
        -------
        LinkComparison
            With ``table``, ``off`` (how far Laplace's estimates are off, in standard errors), ``logliks``, ``findings``
            and ``text``: how far Laplace is from the truth, and what hangs on it.

        Raises
        ------
        DescriptionError
            If there is no such posterior.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> both = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").compare(variants=())
        >>> both.off["se"].round(3).to_dict()
        {'beta[Intercept]': 0.003, 'sigma_u2': -0.019}
        """
        from bayeslmm.comparison.link_comparison import compare_link

        return compare_link(
            self, draws=draws, tune=tune, chains=chains, random_seed=random_seed, variants=variants, progress=progress
        )

    def plot_integral(
        self,
        group: object = None,
        *,
        level: str | None = None,
        approximation: str = "auto",
        nodes: int | None = None,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the integral over one group's effects: the integrand, Laplace's normal on it, the nodes, the errors.

        Parameters
        ----------
        group : label, optional
            Of the group; where it is left out, the one whose integral Laplace's approximation gets wrong the most, or
            the one with the fewest rows where that isn't known group by group.
        level : str, optional
            Such as "u3"; the outermost where groups are nested, else "u2".
        approximation : {"auto", "laplace", "quadrature"}
            At whose estimates.
        nodes : int, optional
            Of the rule that is drawn, for each effect; at most nine where it is left out.
        axes : sequence of two Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            Left, the density of y and the effects over one or two effects; right, the error of the log integral by
            number of nodes.

        Raises
        ------
        DescriptionError
            If there is no such level or group, or it has no integral that can be drawn.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> len(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").plot_integral("b").axes)
        2
        """
        from bayeslmm.pictures.integral import integral_picture

        return integral_picture(self.ml(approximation), group, level, nodes).draw(axes)
