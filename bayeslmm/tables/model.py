"""A model in a notebook: its formula, its data in words, a table of its levels, its priors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.describe import known_covariance
from bayeslmm.model import Model
from bayeslmm.support import html


def model_html(model: Model) -> str:
    """The model as HTML; the text of a terminal is its ``repr``.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> model_html(blm.example("dyestuff")).count("<table")
    2
    """
    parts = [html.heading(f"{model.hierarchy.formula}"), html.paragraph(model.describe())]
    if model.design.levels:
        parts.append(html.scrolled(html.table(level_counts(model))))
    parts += [html.paragraph(hint) for hint in model.design.hints]
    return "".join([*parts, html.heading("Priors"), html.scrolled(html.table(model.priors.table(), index=False))])


def level_counts(model: Model) -> pd.DataFrame:
    """Per level its groups, their rows, and the effects that they have.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> level_counts(blm.example("dyestuff")).loc["u2", ["grouping", "groups", "rows per group"]].tolist()
    ['Batch', '6', '5']
    """
    rows = {}
    for level in model.design.levels:
        counts = level.sizes[: level.m - level.relatives]
        low, high = counts.min(), counts.max()
        rows[level.name] = {
            "grouping": level.tag,
            "groups": f"{level.m - level.relatives:,}"
            + (f" and {level.relatives:,} without rows" * bool(level.relatives)),
            "rows per group": f"{low:,}" if low == high else f"{low:,} to {high:,}, median {np.median(counts):,g}",
            "effects": ", ".join(level.effects),
            "covariance": known_covariance(level) or (level.structure.text if level.r > 1 else "one SD"),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
