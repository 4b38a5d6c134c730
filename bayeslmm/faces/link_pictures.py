"""GLMM's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.integration.fit import GLMMFit


class LinkPictures(LinkModel):
    """Pictures of fits and posteriors of outcomes that aren't Gaussian."""

    def plot_estimates(self, *results: GLMMFit | xr.DataTree, axes: Sequence[Axes] | None = None) -> Figure:
        """Draw every parameter with its interval, source by source: a small axis each, in its own units.

        Parameters
        ----------
        *results : GLMMFit or xarray.DataTree
            Posteriors are drawn below ML, which is always there.
        axes : sequence of Axes, optional
            One per parameter.

        Returns
        -------
        matplotlib.figure.Figure
            The fit with 95 % Wald limits, posteriors with mean and middle 95 %.

        Raises
        ------
        DescriptionError, DataError
            For what is no result of this model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> figure = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").plot_estimates()
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['beta[Intercept]', 'sigma_u2']
        """
        from functools import partial

        from bayeslmm.pictures.estimates import estimates_of
        from bayeslmm.pictures.link_results import link_unit, read_pictured

        read = [read_pictured(self, None), *(read_pictured(self, one, False) for one in results)]
        first, *rest = [(one.key, one.parameters()) for one in read]
        tables = [first, *(one for one in rest if one[0] != "ml")]
        return estimates_of(self.design, tables, partial(link_unit, self), "Wald").draw(axes)

    def plot_caterpillar(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        level: str | None = None,
        effect: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the random effects of a level in order, with intervals, on the link's scale.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
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
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> figure = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").plot_caterpillar()
        >>> figure.axes[0].get_title(loc="left")
        'u2: one per g'
        """
        import numpy as np

        from bayeslmm.pictures.caterpillar import caterpillar_of
        from bayeslmm.pictures.choices import effect_of, level_of
        from bayeslmm.pictures.link_results import read_pictured

        at = level_of(self.design, level)
        read = read_pictured(self, result)
        nothing = np.full(at.m, np.nan)
        scale = f"{self.family.link} scale"
        return caterpillar_of([read], at, effect_of(at, effect), scale, nothing).draw(ax)

    def plot_rootogram(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        effects: str = "new",
        draws: int = 400,
        random_seed: int | None = 1,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw how often each count came, hanging from how often it was expected: a check of the distribution.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
            Whose replicates of the data are drawn; the fit by ML.
        effects : {"new", "own"}
            Whether replicates draw the groups anew, or keep their effects.
        draws : int
            Replicates.
        random_seed : int, optional
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError, DataError
            For outcomes that aren't counts, and what is no result of this model.

        Notes
        -----
        Kleiber & Zeileis (2016), doi:10.1080/00031305.2016.1173590.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> figure = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").plot_rootogram()
        >>> figure.axes[0].get_title(loc="left")
        'How often each y came, and was expected'
        """
        from bayeslmm.pictures.link_results import read_pictured
        from bayeslmm.pictures.rootogram import rootogram

        return rootogram(read_pictured(self, result), effects, draws, random_seed).draw(ax)

    def plot_binned_residuals(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        x: str | None = None,
        bins: int | None = None,
        effects: str = "new",
        draws: int = 400,
        random_seed: int | None = 1,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw observed shares less expected probabilities, averaged in bins: a check of zeros and ones.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
        x : str, optional
            A predictor whose values are binned; else the expected probability.
        bins : int, optional
            About the square root of the number of trials, 40 at most, where it is left out.
        effects : {"new", "own"}
            "new": residuals are from the mean over all groups, and replicates draw the groups anew. "own": from the
            means of the rows' own groups, which the rows themselves have told, so that residuals lean where groups
            are small, in the best of models.
        draws : int
        random_seed : int, optional
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError, DataError
            For outcomes that aren't binomial, no predictor of the model, and what is no result of it.

        Notes
        -----
        Gelman & Hill (2007), section 5.6; the band is of replicates, not of two standard errors.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1], "x": [1, 2, 3, 4, 5, 6] * 2, "g": list("aaabbbcccddd")}
        >>> figure = blm.GLMM("y ~ x + (1 | g)", data, family="binomial").plot_binned_residuals()
        >>> figure.axes[0].get_xlabel()
        'expected probability'
        """
        from bayeslmm.pictures.binned import binned
        from bayeslmm.pictures.link_results import read_pictured
        from bayeslmm.support.arguments import check_whole

        if bins is not None:
            check_whole("bins", bins, 2, example=20)
        return binned(read_pictured(self, result), x, bins, effects, draws, random_seed).draw(ax)

    def plot_categories(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        by: str | None = None,
        effects: str = "new",
        draws: int = 400,
        random_seed: int | None = 1,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the shares of ordered categories, observed and in replicates, by the values of a predictor.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
        by : str, optional
            A predictor; all rows in one panel where it is left out.
        effects : {"new", "own"}
        draws : int
        random_seed : int, optional
        axes : sequence of Axes, optional
            One per panel.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError, DataError
            For outcomes that aren't ordered categories, no predictor, and what is no result of this model.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [1, 2, 3, 2, 1, 3, 3, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> figure = blm.GLMM("y ~ x + (1 | g)", data, family="cumulative").plot_categories(by="x")
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['x = 0 (4 rows)', 'x = 1 (4 rows)']
        """
        from bayeslmm.pictures.categories import categories
        from bayeslmm.pictures.link_results import read_pictured

        return categories(read_pictured(self, result), by, effects, draws, random_seed).draw(axes)

    def plot_residual_qq(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        effects: str = "new",
        draws: int = 400,
        random_seed: int | None = 1,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw randomised quantile residuals, in order and over what was expected: a check for every family.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
        effects : {"new", "own"}
            Whether replicates draw the groups anew, so that every residual is standard normal if the model holds, or
            keep effects that the rows themselves have told.
        draws : int
        random_seed : int, optional
        axes : sequence of Axes, optional
            Two.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError, DataError
            For what is no result of this model.

        Notes
        -----
        Dunn & Smyth (1996); ranks among replicates as in Hartig's DHARMa.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> figure = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").plot_residual_qq()
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['In order', 'Over what was expected']
        """
        from bayeslmm.pictures.link_results import read_pictured
        from bayeslmm.pictures.residual_quantiles import residual_quantiles

        return residual_quantiles(read_pictured(self, result), effects, draws, random_seed).draw(axes)

    def plot_curves(
        self,
        result: GLMMFit | xr.DataTree | None = None,
        *,
        x: str | None = None,
        level: str | None = None,
        axes: Sequence[Axes] | None = None,
    ) -> Figure:
        """Draw the mean over a predictor: of each group, of the group in the middle, and over all groups.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree, optional
        x : str, optional
            A predictor; the first number where it is left out. The others are held where they are typical.
        level : str, optional
            Whose groups are drawn; of many 40.
        axes : sequence of Axes, optional
            One; of ordered categories one each.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DescriptionError, DataError
            For a model without predictors or groups, or with known covariances, and what is no result of it.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1], "x": [1, 2, 3, 4, 5, 6] * 2, "g": list("aaabbbcccddd")}
        >>> figure = blm.GLMM("y ~ x + (1 | g)", data, family="binomial").plot_curves()
        >>> figure.axes[0].get_title(loc="left")
        'Mean of y over x'
        """
        from bayeslmm.pictures.curves import curves
        from bayeslmm.pictures.link_results import read_pictured

        read = read_pictured(self, result)
        return curves(self, read.result, read.name, x, level).draw(axes)
