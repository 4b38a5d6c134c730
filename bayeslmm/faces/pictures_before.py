"""Pictures of a model and its data, before anything is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class PicturesBefore(Model):
    """What the data, the hierarchy and the priors look like."""

    def plot_data(
        self, x: str | None = None, *, level: str | None = None, axes: Sequence[Axes] | None = None
    ) -> Figure:
        """Draw y by group before any model: over a predictor where there is a number, else a strip per group.

        Parameters
        ----------
        x : str, optional
            A predictor of the model; a number whose effect varies between the groups, if there is one.
        level : str, optional
            Name ("u2") or grouping ("class:school"); the first level.
        axes : sequence of Axes, optional
            One per panel; made where they are left out.

        Returns
        -------
        matplotlib.figure.Figure
            With 9 groups as panels, from the smallest to the largest, or up to 40 as strips, in the order of means.

        Raises
        ------
        DescriptionError
            Where there is no such predictor or level.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> len(blm.example("sleepstudy").plot_data().axes)
        9
        """
        from bayeslmm.pictures.choices import level_of
        from bayeslmm.pictures.rows import data_rows

        return data_rows(self, level_of(self.design, level), x).draw(axes)

    def plot_hierarchy(self, *, ax: Axes | None = None) -> Figure:
        """Draw the hierarchy: groups within groups as a tree down to counts of rows; crossed levels as a table.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            Of many groups the first ones of each, and how many are left out.

        Raises
        ------
        DescriptionError
            For a model without levels.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> len(blm.example("heights").plot_hierarchy().axes)
        1
        """
        from bayeslmm.pictures.hierarchy import hierarchy_picture

        self.design.require_rows()
        return hierarchy_picture(self.design).draw(ax)

    def plot_Z(self, *, ax: Axes | None = None) -> Figure:
        """Draw where the matrix of the random effects is not zero: a band per level, a column per row of the data.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
            Nested levels show as steps within steps, crossed ones as stripes across each other.

        Raises
        ------
        DescriptionError
            For a model without levels.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("heights").plot_Z().axes[0].get_title(loc="left")
        'Z transposed: 8 x 18, 25 % not zero'
        """
        from bayeslmm.pictures.matrix import design_matrix

        return design_matrix(self.design).draw(ax)

    def plot_prior_predictive(
        self, draws: int = 500, random_seed: int | None = None, *, axes: Sequence[Axes] | None = None
    ) -> Figure:
        """Draw data sets from the prior beside the data: their ranges, and their SDs against the data's.

        Parameters
        ----------
        draws : int
            How many data sets.
        random_seed : int, optional
            The same seed gives the same picture.
        axes : two Axes, optional

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        PriorError
            Where a prior is flat: nothing can be drawn from it.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> len(blm.example("dyestuff").plot_prior_predictive(draws=50, random_seed=1).axes)
        2
        """
        from bayeslmm.pictures.prior import prior_check

        return prior_check(self, draws, random_seed).draw(axes)
