"""Pictures of fits and posteriors."""

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


class Pictures(Model):
    """What fits and posteriors say, drawn. A result is a fit, a posterior, or nothing, which is the fit by REML."""

    def plot_estimates(self, *results: LikelihoodFit | xr.DataTree, axes: Sequence[Axes] | None = None) -> Figure:
        """Draw every parameter with its interval, source by source: a small axis each, in its own units.

        Parameters
        ----------
        *results : LikelihoodFit or xarray.DataTree
            Posteriors are drawn below ML and REML, which are always there.
        axes : sequence of Axes, optional
            One per parameter.

        Returns
        -------
        matplotlib.figure.Figure
            Fits with 95 % profile limits, SDs and correlations too (REML's coefficients with 2 standard errors),
            posteriors with mean and middle 95 %.

        Raises
        ------
        DataError
            For a posterior of another model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> figure = lmm.plot_estimates(lmm.sample(draws=200, random_seed=1, progress=False))
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['beta[Intercept]', 'sigma', 'sigma_u2']
        """
        from bayeslmm.pictures.estimates import estimates
        from bayeslmm.pictures.results import OfDraws, OfFit, Result, read_result

        fits: list[Result] = [OfFit(fit=self.ml()), OfFit(fit=self.reml())]
        read = [read_result(self, result, "lmm.plot_estimates({})", random_effects=False) for result in results]
        return estimates(self.design, [*fits, *(one for one in read if isinstance(one, OfDraws))]).draw(axes)

    def plot_sds(self, tree: xr.DataTree | None = None, *, axes: Sequence[Axes] | None = None) -> Figure:
        """Draw the exact posterior density of every SD over its prior, with REML's profile likelihood.

        The density is computed and not estimated from draws, so that none are needed where that can be.

        Parameters
        ----------
        tree : xarray.DataTree, optional
            Draws for what can't be computed: parameters of the residuals, and SDs that follow from others.
        axes : sequence of Axes, optional
            One per parameter.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError
            Where nothing can be computed without draws.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> [axes.get_title(loc="left") for axes in blm.example("dyestuff").plot_sds().axes]
        ['sigma', 'sigma_u2']
        """
        from bayeslmm.pictures.densities import sd_densities
        from bayeslmm.pictures.results import read_draws

        if tree is None:
            return sd_densities(self, profile=True).draw(axes)
        result = read_draws(self, tree, "lmm.plot_sds({})", random_effects=False)
        return sd_densities(self, {result.key: result.by_parameter()}, profile=True).draw(axes)

    def plot_caterpillar(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        *,
        level: str | None = None,
        effect: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the random effects of a level in order, with intervals, and where each group would be unshrunk.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        level, effect : str, optional
            Which effect of which level; the first ones.
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            Of many groups 60, evenly spaced by rank.

        Raises
        ------
        DescriptionError, DataError
            Where there is no such level or effect, or the result is of another model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("sleepstudy").plot_caterpillar(effect="Days").axes[0].get_title(loc="left")
        'u2, Days: one per Subject'
        """
        from bayeslmm.pictures.caterpillar import caterpillar
        from bayeslmm.pictures.choices import effect_of, level_of
        from bayeslmm.pictures.results import read_result

        at = level_of(self.design, level)
        read = read_result(self, result, "lmm.plot_caterpillar({})")
        return caterpillar(self, [read], at, effect_of(at, effect)).draw(ax)

    def plot_shrinkage(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        *,
        level: str | None = None,
        effects: tuple[str, str] | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw two effects, such as intercept and slope: arrows from each group's own fit to its pooled one.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        level : str, optional
            The first one with several effects a group.
        effects : two str, optional
            Across and up; the first two.
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            With the ellipses that hold 50 % and 95 % of the population by the estimated covariance.

        Raises
        ------
        DescriptionError
            For a model in which no level has several effects.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("sleepstudy").plot_shrinkage().axes[0].get_xlabel()
        'Intercept (Reaction)'
        """
        from bayeslmm.pictures.choices import effect_of, level_of
        from bayeslmm.pictures.plane import shrinkage_plane
        from bayeslmm.pictures.results import read_result

        at = level_of(self.design, level, of_several=True)
        pair = at.effects[:2] if effects is None else tuple(effects)
        if len(pair) != 2:
            raise DescriptionError(f"effects={effects!r}; expected two of {at.label}, such as {at.effects[:2]}.")
        read = read_result(self, result, "lmm.plot_shrinkage({})")
        return shrinkage_plane(self, read, at, (effect_of(at, pair[0]), effect_of(at, pair[1]))).draw(ax)

    def plot_pooling(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        x: str | None = None,
        *,
        level: str | None = None,
        groups: int | Sequence[str] = 6,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw a line per group three ways: by its own rows, by the model, and as if there were no groups.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        x : str, optional
            A predictor of the model; a number whose effect varies between the groups, if there is one.
        level : str, optional
            The first one.
        groups : int or sequence of str
            How many, from the smallest to the largest, or which.
        axes : sequence of Axes, optional
            One per group.

        Returns
        -------
        matplotlib.figure.Figure
            After Gelman & Hill (2007), chapter 12: no pooling, partial and complete.

        Raises
        ------
        DescriptionError
            Where there is no such predictor, level or group.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> figure = blm.example("radon").plot_pooling(groups=["AITKIN", "STLOUIS"])
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['AITKIN (4 rows)', 'STLOUIS (116 rows)']
        """
        from bayeslmm.pictures.choices import level_of
        from bayeslmm.pictures.pooling import pooling
        from bayeslmm.pictures.results import read_result

        read = read_result(self, result, "lmm.plot_pooling({})")
        return pooling(self, read, level_of(self.design, level), x, groups).draw(axes)

    def plot_group_size(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        *,
        level: str | None = None,
        effect: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw each group's effect against its number of rows, unshrunk and pooled, over the population's interval.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        level, effect : str, optional
            Which effect of which level; the first ones.
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            Small groups scatter most, within a funnel, and are drawn in furthest.

        Raises
        ------
        DescriptionError, DataError
            Where there is no such level or effect, or the result is of another model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("radon").plot_group_size().axes[0].get_xlabel()
        'rows of the group (logarithmic)'
        """
        from bayeslmm.pictures.choices import effect_of, level_of
        from bayeslmm.pictures.group_size import group_sizes
        from bayeslmm.pictures.results import read_result

        at = level_of(self.design, level)
        read = read_result(self, result, "lmm.plot_group_size({})")
        return group_sizes(self, read, at, effect_of(at, effect)).draw(ax)

    def plot_V(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        *,
        rows: int = 48,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the covariance of y as a sum: ZGZ' of each level, R, and V, the groups marked.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        rows : int
            At most so many: of more, a few rows of a few groups.
        axes : sequence of Axes, optional
            One per level, one for R, one for the sum.

        Returns
        -------
        matplotlib.figure.Figure
            In units of y squared, one scale of colours for all.

        Raises
        ------
        DescriptionError, DataError
            If `rows` is no such number, or the result is of another model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("heights").plot_V().axes[0].get_title(loc="left")
        'σ²Z₂G₂Z₂′, class:school'
        """
        from bayeslmm.pictures.blocks import covariance_blocks
        from bayeslmm.pictures.results import read_result

        self.design.require_rows()
        read = read_result(self, result, "lmm.plot_V({})", random_effects=False)
        return covariance_blocks(self, read, rows).draw(axes)

    def plot_conditional_effects(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        x: str | None = None,
        *,
        by: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the population's mean over a predictor, the others where they are typical, as brms does.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
        x : str, optional
            A predictor of the model.
        by : str, optional
            Another one: a line per category, or at its quantiles 0.1, 0.5 and 0.9 for a number.
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            With 2 standard errors of a fit or the middle 95 % of a posterior, over the rows of the data. The other
            predictors have the value of the data nearest to their mean, or their most common category.

        Raises
        ------
        DescriptionError
            Where the model has no such predictor.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> figure = blm.example("cake").plot_conditional_effects(x="temperature", by="recipe")
        >>> figure.axes[0].get_title(loc="left")
        'Mean of angle over temperature, by recipe'
        """
        from bayeslmm.pictures.conditional import conditional_effects
        from bayeslmm.pictures.results import read_result

        read = read_result(self, result, "lmm.plot_conditional_effects({})", random_effects=False)
        return conditional_effects(self, read, x, by).draw(ax)

    def plot_variance_partition(
        self,
        result: LikelihoodFit | xr.DataTree | None = None,
        x: str | None = None,
        *,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the shares of the levels and of the rows in the variance of y around X beta.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree, optional
            A posterior has intervals.
        x : str, optional
            Where slopes vary, the column over whose values the shares change.
        axes : sequence of Axes, optional
            One, and where slopes vary another one.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError
            If no effects of `x` vary between groups.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> len(lmm.plot_variance_partition(lmm.sample(draws=200, random_seed=1, progress=False)).axes)
        2
        """
        from bayeslmm.pictures.partition import variance_partition
        from bayeslmm.pictures.results import read_result

        read = read_result(self, result, "lmm.plot_variance_partition({})", random_effects=False)
        return variance_partition(self, read, x).draw(axes)
