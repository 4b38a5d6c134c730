"""A comparison of approximations as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from bayeslmm.comparison import link_plots
from bayeslmm.errors import BayesLMMError
from bayeslmm.support import html
from bayeslmm.support.page import page, picture, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.comparison.link_comparison import LinkComparison

ATTRIBUTES = ("sampler", "integration", "draws", "tune", "chains", "random_seed", "acceptance_rate", "pareto_k", "note")


def report_html(
    comparison: LinkComparison, *, title: str | None = None, source: str | None = None, notes: str | None = None
) -> str:
    """The page as text; parameters as in `LinkComparison.report`."""
    model = comparison.model
    sections = {
        "The model": html.paragraph(model.describe()),
        "Priors": html.scrolled(html.table(model.priors.table(), index=False, most=None, classes="words")),
        "What the comparison shows": "".join(map(html.paragraph, comparison.findings)),
        "Estimates": html.scrolled(html.table(comparison.shown, most=None)),
        "The integral": html.paragraph(
            "The log-likelihood at each fit's estimates, by its own approximation and by the best that there is."
        )
        + html.scrolled(html.table(comparison.logliks, most=None)),
        "Pictures": "".join(picture(*each) for each in _pictures(comparison)),
        "Settings": _settings(comparison),
    }
    return page(title or f"Comparison of {model.formula}", sections, source=source, notes=notes)


def _pictures(comparison: LinkComparison) -> Iterator[tuple[Figure, str]]:
    model = comparison.model
    yield (
        link_plots.estimates(comparison).draw(),
        "Each parameter in its own units: maximum likelihood by each approximation of the integral, with 95 % Wald "
        "limits, and posteriors with mean and middle 95 %.",
    )
    densities = link_plots.densities(comparison)
    if densities.panels:
        yield (
            densities.draw(),
            "The posterior density of each SD, with its prior in grey and the points that each approximation of the "
            "likelihood chooses. Where the posterior follows the prior, the data said little.",
        )
    integral = _integral(comparison)
    if integral is not None:
        yield (
            integral,
            "The integral over one group's effects, the one that Laplace's approximation gets wrong the most where "
            "that is known: the integrand, the normal that stands for it, and the error by number of nodes.",
        )
    for level in model.design.levels:
        for effect in range(level.r):
            yield (
                link_plots.caterpillar(comparison, level, effect),
                f"The effects of {level.label}, {level.effects[effect]}, on the scale of the {model.family.link} link.",
            )


def _integral(comparison: LinkComparison) -> Figure | None:
    try:
        return link_plots.integral(comparison)
    except BayesLMMError:  # of what has no picture: more than two effects at once, or no level
        return None


def _settings(comparison: LinkComparison) -> str:
    rows = []
    for name, tree in comparison.posteriors.items():
        values = [f"{key} {tree.attrs[key]}" for key in ATTRIBUTES if tree.attrs.get(key) not in (None, "")]
        rows.append(f"<li>{escape(name)}: {escape(', '.join(values))}</li>")
    return f"<ul>{''.join(rows)}</ul>\n{versions()}"
