"""The picture of what the priors imply."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.support.figures import COLOURS, LONG_NAME, axes_of, tidy, under

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.criticism.implied_priors import ImpliedPriors


def implied_densities(implied: ImpliedPriors) -> Figure:
    """Draw histograms of what the priors imply: intra-class correlations and shrinkage on (0, 1), the total SD."""
    names = list(implied.draws.columns)
    figure, axes = axes_of(None, names, 1.7)
    for a, name in zip(axes, names, strict=True):
        x = implied.draws[name].to_numpy()
        top = float(np.quantile(x, 0.98)) if name == "sigma_total" else 1.0
        a.hist(x, bins=25, range=(0.0, top), density=True, color=COLOURS["prior"], alpha=0.45, lw=0)
        a.axvline(np.median(x), color=COLOURS["ml"], lw=1.1)
        a.set_xlim(0, top)
        a.set_yticks([])
        tidy(a, name, left=False, most=LONG_NAME)
        under(a, re.split("[,:]", implied.what[name])[0], 30)
    return figure
