"""Pictures that ask whether a model fits and whether its draws can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.errors import DescriptionError
from bayeslmm.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.likelihood.fit import LikelihoodFit


class PicturesAfter(Model):
    """Checks of the model against the data, and of the draws."""

    def plot_checks(
        self,
        tree: xr.DataTree,
        *,
        effects: str = "own",
        draws: int = 400,
        random_seed: int | None = 1,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw predictive checks per level: between groups, within them, and from row to row.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        effects : {"own", "new"}
            Whether the replicates keep each group's own effects or draw new groups from the population.
        draws : int
            At most so many draws of the posterior are used.
        random_seed : int, optional
            The same seed gives the same picture.
        axes : sequence of Axes, optional
            One per statistic.

        Returns
        -------
        matplotlib.figure.Figure
            A histogram of each statistic in the replicates, and where the data stand. Statistics are taken of y less
            its least-squares fit on X.

        Raises
        ------
        DescriptionError, DataError
            If `effects` is none of the above, or the tree is of another model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> figure = lmm.plot_checks(lmm.sample(draws=200, random_seed=1, progress=False), effects="new")
        >>> figure.axes[0].get_title(loc="left")
        'SD between means'
        """
        from bayeslmm.pictures.checks import predictive_checks
        from bayeslmm.pictures.results import read_draws

        self.design.require_rows()
        read = read_draws(self, tree, "lmm.plot_checks({})", random_effects=effects != "new")
        return predictive_checks(read, effects, draws, random_seed).draw(axes)

    def plot_qq(self, fit: LikelihoodFit | None = None, *, axes: Sequence[Axes] | None = None) -> Figure:
        """Draw standardised rows and conditional modes against the quantiles of a normal distribution.

        Parameters
        ----------
        fit : LikelihoodFit, optional
            The fit by REML where it is left out.
        axes : sequence of Axes, optional
            One for the rows, one per effect of each level.

        Returns
        -------
        matplotlib.figure.Figure
            Each row less what all others predict of it, over the SD of that; modes over their own SD, which is smaller
            than that of the effects (Lange & Ryan 1989, doi:10.1214/aos/1176347130). Both at the fit's parameters.

        Raises
        ------
        DescriptionError
            If what came is no fit of this model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> [axes.get_title(loc="left") for axes in blm.example("sleepstudy").plot_qq().axes]
        ['rows, given all others', 'u2: Subject, Intercept', 'u2: Subject, Days']
        """
        from bayeslmm.pictures.quantiles import quantiles
        from bayeslmm.pictures.results import read_fit

        return quantiles(read_fit(self, fit, "lmm.plot_qq({})").fit).draw(axes)

    def plot_funnel(
        self,
        *,
        centered: xr.DataTree | None = None,
        noncentered: xr.DataTree | None = None,
        marginal: xr.DataTree | None = None,
        level: str | None = None,
        effect: str | None = None,
        group: str | None = None,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the log of an SD against one effect of its level, as the samplers see it, divergences marked.

        Parameters
        ----------
        centered, noncentered, marginal : xarray.DataTree, optional
            Posteriors, a panel each; at least one. What `LMM.sample` returns, or ``pymc.sample`` on `LMM.joint`, which
            has the divergences of that parameterisation.
        level, effect : str, optional
            Which effect of which level; the last level's first one.
        group : str, optional
            The one with the fewest rows.
        axes : sequence of Axes, optional
            One per panel.

        Returns
        -------
        matplotlib.figure.Figure
            Across stand u, u / SD and u (Neal's funnel: Neal 2003, doi:10.1214/aos/1056562461).

        Raises
        ------
        DescriptionError, DataError
            If no posterior came, or one is of another model; where there is no such level, effect or group.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.plot_funnel(marginal=lmm.sample(draws=200, random_seed=1, progress=False)).axes[0].get_ylabel()
        'log sigma_u2'
        """
        from bayeslmm.pictures.choices import effect_of, level_of
        from bayeslmm.pictures.funnel import funnel
        from bayeslmm.pictures.results import read_draws

        given = {"centred": centered, "noncentred": noncentered, "marginal": marginal}
        trees = {
            kind: read_draws(self, tree, "lmm.plot_funnel(marginal={})").tree
            for kind, tree in given.items()
            if tree is not None
        }
        if not trees:
            raise DescriptionError("No posterior came; write lmm.plot_funnel(marginal=lmm.sample()).")
        last = next((one.name for one in self.design.levels[::-1] if one.n_sds), None)
        at = level_of(self.design, level or last)
        return funnel(trees, at, effect_of(at, effect), group).draw(axes)

    def plot_ess(self, tree: xr.DataTree, *, ax: Axes | None = None) -> Figure:
        """Draw how many independent draws a run is worth, parameter by parameter; 400 are wanted.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            If the tree is no posterior of this model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.plot_ess(lmm.sample(draws=200, random_seed=1, progress=False)).axes[0].get_title(loc="left")
        'Effective draws (bulk); dashed: 400'
        """
        from bayeslmm.pictures.results import read_draws
        from bayeslmm.pictures.sampling import effective_draws

        read = read_draws(self, tree, "lmm.plot_ess({})", random_effects=False)
        return effective_draws(self.design, read.tree, read.key).draw(ax)
