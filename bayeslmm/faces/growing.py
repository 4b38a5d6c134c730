"""Sums over a model's rows, to which others are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.model import Model

if TYPE_CHECKING:
    from bayeslmm.sums import Sums


class Growing(Model):
    """What is kept of the rows, so that they need not be."""

    def sums(self) -> Sums:
        """Sums over the rows: add those of other rows to them, save them, make the model of them again.

        Returns
        -------
        Sums

        Raises
        ------
        DescriptionError, DataError
            For what needs rows in their order: AR(1), compound symmetry by row, a known R.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> sums = blm.example("dyestuff").sums()
        >>> sums
        Sums('Yield ~ 1 + (1 | Batch)', 30 rows in 6 cells)
        >>> blm.LMM.from_sums(sums.updated({"Yield": [1500.0, 1530.0], "Batch": ["G", "G"]}))
        LMM('Yield ~ 1 + (1 | Batch)', 32 rows)
        """
        from bayeslmm.sums import sums_of_design

        return sums_of_design(self.design)
