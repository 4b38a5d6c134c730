"""Every picture once, with the code that makes it and how to read it: `python docs/gallery_pictures.py`.

The functions below are the gallery: a docstring says what a picture shows, the lines under it are shown and run.
`docs/build.py` makes a page of them; alone, this script writes one HTML file with the pictures inside.
"""

from __future__ import annotations

import inspect
import os
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DPI = 144


def plot_data(blm):
    """The data before any model.

    Each panel is one person, the grey dots are all others. Look here first: do the groups differ in level, in slope,
    in scatter?
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_data()


def plot_hierarchy_nested(blm):
    """The hierarchy as a tree.

    Classes lie in schools, and pupils in classes: each group belongs to one group of the level above. The numbers say
    how many rows of the table stand behind each group.
    """
    lmm = blm.example("heights")
    return lmm.plot_hierarchy()


def plot_hierarchy_crossed(blm):
    """Crossed groups as a table.

    Every sample is tried on every plate, so neither level lies inside the other and there is no tree. A cell counts the
    rows that a plate and a sample share; empty cells would be pairs that never met.
    """
    lmm = blm.example("penicillin")
    return lmm.plot_hierarchy()


def plot_Z(blm):
    """The matrix that hands the effects to the rows.

    A coloured cell says that this row of the data gets that group's effect. Nested levels are steps within steps,
    crossed ones stripes across each other.
    """
    lmm = blm.example("penicillin")
    return lmm.plot_Z()


def plot_prior_predictive(blm):
    """What the priors expect.

    Each line at the left is a whole data set that the priors could have produced, from its smallest to its largest
    value; the blue band is what was measured. Priors should allow the data with room to spare, and not expect the
    impossible as a matter of course.
    """
    lmm = blm.example("heights")
    return lmm.plot_prior_predictive(random_seed=1)


def implied_priors(blm):
    """What the priors say of correlation and shrinkage.

    A prior on standard deviations is also a prior on how alike members of one group are. A pile at 0 or at 1 is an
    opinion that was perhaps not meant.
    """
    lmm = blm.example("heights")
    return lmm.implied_priors(random_seed=1).plot()


def plot_estimates(blm):
    """Estimates with their intervals.

    Every number of the model on an axis of its own: by maximum likelihood, by REML and as a posterior. Where the
    intervals differ much, the data leave room, and the method or the prior fills it.
    """
    lmm = blm.example("heights")
    tree = lmm.sample(random_seed=1, progress=False)
    return lmm.plot_estimates(tree)


def plot_sds(blm):
    """Standard deviations: prior, likelihood and posterior.

    Grey is what was thought before, light blue what the data say, orange what follows from both. Where orange keeps the
    shape of grey, as for two schools, the data had little to say.
    """
    lmm = blm.example("heights")
    return lmm.plot_sds()


def plot_caterpillar(blm):
    """The groups in order.

    Each line is a group's effect with its uncertainty; lines that overlap cannot be ranked. The crosses are what a
    group's own rows say alone: the model draws them towards zero, the small groups furthest.
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_caterpillar(lmm.sample(random_seed=1, progress=False), effect="Days")


def plot_shrinkage(blm):
    """Shrinkage in two dimensions.

    An arrow goes from a person's own line (its intercept and slope) to the line that the model gives them. People far
    from the middle, or with rows that say little, are drawn further, and along the shape of the dashed ellipse.
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_shrinkage()


def plot_pooling(blm):
    """Three ways to draw a line per group.

    Dashed: each county by its own houses alone. Dotted: all counties as one. Green, between the two: the model's
    compromise, which trusts a county's own rows the more of them it has.
    """
    lmm = blm.example("radon")
    return lmm.plot_pooling()


def plot_group_size(blm):
    """Small groups scatter most.

    Open circles, what each school's own pupils say, fan out at the left, where schools are small: extremes are mostly
    chance. Filled circles are the model's estimates, which take that back.
    """
    lmm = blm.example("chem97")
    return lmm.plot_group_size()


def plot_V(blm):
    """The covariance of the data, put together.

    Rows of one class share the class's effect, rows of one school the school's: two patterns of blocks, and each row's
    own variance on the diagonal. Their sum is all that the marginal model needs to know of the groups.
    """
    lmm = blm.example("heights")
    return lmm.plot_V(lmm.sample(random_seed=1, progress=False))


def plot_conditional_effects(blm):
    """The mean over a predictor.

    The line is what the model expects of an average group, the band how sure it is of that. Other predictors are held
    where they are typical, which the words below say.
    """
    lmm = blm.example("cake")
    return lmm.plot_conditional_effects(x="temperature", by="recipe")


def plot_variance_partition(blm):
    """Where the variance is.

    How much of the variance lies between people, and how much within them, with its uncertainty. Where slopes differ
    the answer depends on the day: at the right, people grow apart as the nights go on.
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_variance_partition(lmm.sample(random_seed=1, progress=False))


def plot_checks(blm):
    """Whether the model would produce such data.

    Each histogram is a summary of data that the model draws, the black line that of the data. A line far out in a tail
    is something the model cannot do: here the single largest error within a person.
    """
    lmm = blm.example("sleepstudy")
    tree = lmm.sample(random_seed=1, progress=False)
    return lmm.plot_checks(tree, effects="new")


def plot_qq(blm):
    """Whether errors and effects are normal.

    Points along the line are as a normal distribution would have them; points that leave the band are not. Rows are
    held against what all other rows predict of them, groups against how much their estimates can vary.
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_qq()


def plot_funnel(blm):
    """The funnel, and how it is avoided.

    When a standard deviation is near zero all its effects must be near zero too: in the joint model the space narrows
    to a neck, where samplers stumble (crosses) and from where they stay away. The marginal model has no effects to
    move; they are drawn afterwards, and the neck is complete.
    """
    import pymc as pm

    lmm = blm.example("heights")
    runs = {}
    for name, centered in {"centered": True, "noncentered": False}.items():
        with lmm.joint(centered=centered):
            runs[name] = pm.sample(500, tune=500, chains=2, random_seed=1, progressbar=False)
    return lmm.plot_funnel(**runs, marginal=lmm.sample(random_seed=1, progress=False))


def plot_ess(blm):
    """How much the draws are worth.

    Draws of a chain depend on each other; a bar says how many independent ones they are worth. Left of the dashed line,
    intervals should not be quoted.
    """
    lmm = blm.example("sleepstudy")
    return lmm.plot_ess(lmm.sample(random_seed=1, progress=False))


def comparison_plot(blm):
    """All of it side by side.

    Both fits and both posteriors of one model: estimates above, standard deviations below. Joint and marginal are one
    posterior reached in two ways, so their curves should lie on each other.
    """
    lmm = blm.example("dyestuff")
    return blm.compare(lmm, random_seed=1, progress=False).plot()


def plot_curves(blm):
    """Each patient, the patient in the middle, and all of them.

    Outcomes that are not Gaussian have curves, and the mean of curves is none of them: dashed, what the share in the
    population does; black, what happens to a patient in the middle. Both are right, and answer two questions.
    """
    glmm = blm.example("toenail")
    return glmm.plot_curves(x="time")


def plot_binned_residuals(blm):
    """Zeros and ones, in bins.

    A residual of a zero or a one says nothing by itself; the mean of those alike in what was expected of them should
    lie near zero, within what data of this model would do (grey).
    """
    glmm = blm.example("toenail")
    return glmm.plot_binned_residuals()


def plot_rootogram(blm):
    """Counts, hanging from what was expected.

    Each bar hangs from how often the model expects its count and should end at zero. Square roots let the rare large
    counts be seen; the last bar has all that are larger.
    """
    data = blm.example_data("epil")
    glmm = blm.GLMM("y ~ lbase * trt + (1 | subject)", data, family="negative_binomial")
    return glmm.plot_rootogram()


def plot_residual_qq(blm):
    """Residuals for any family.

    Where does each row lie among its replicates? Ties are broken at random, so that a normal line is the answer of a
    model that holds, whatever the outcome. A Poisson for these seizures leaves too many in both tails.
    """
    data = blm.example_data("epil")
    glmm = blm.GLMM("y ~ lbase * trt + (1 | subject)", data, family="poisson")
    return glmm.plot_residual_qq()


def plot_categories(blm):
    """Ordered categories, observed and expected.

    Bars are shares of the bitterness of wines as judges rated it, points what the model expects, with where 95 % of its
    replicates lie.
    """
    data = blm.example_data("wine")
    glmm = blm.GLMM("rating ~ temp + contact + (1 | judge)", data, family="cumulative")
    return glmm.plot_categories(by="temp")


def plot_integral(blm):
    """An integral that has no closed form.

    Where the outcome isn't Gaussian, each group's effect has to be integrated out approximately. Black is what is
    integrated, dashed the normal curve that Laplace's approximation puts in its place, blue the nodes of a quadrature;
    on the right, how wrong the log of the integral is by so many nodes.
    """
    sleep = blm.example_data("sleepstudy")
    slow = sleep.assign(slow=(sleep["Reaction"] > 300).astype(int))
    return blm.GLMM("slow ~ Days + (1 | Subject)", slow, family="binomial").plot_integral()


GALLERY: list[Callable[[Any], Any]] = [
    *(plot_data, plot_hierarchy_nested, plot_hierarchy_crossed, plot_Z, plot_prior_predictive, implied_priors),
    *(plot_estimates, plot_sds, plot_caterpillar, plot_shrinkage, plot_pooling, plot_group_size, plot_V),
    *(plot_conditional_effects, plot_variance_partition, plot_checks, plot_qq, plot_funnel, plot_ess, comparison_plot),
    *(plot_curves, plot_binned_residuals, plot_rootogram, plot_residual_qq, plot_categories),
    plot_integral,
]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture of the gallery: its name, its title, words, code, and the picture as PNG."""

    name: str
    title: str
    words: str
    code: str
    png: bytes


def entries() -> list[Entry]:
    """Run every function above."""
    import bayeslmm as blm

    out = []
    for make in GALLERY:
        title, _, words = inspect.cleandoc(make.__doc__ or "").partition("\n\n")
        stream = BytesIO()
        make(blm).savefig(stream, format="png", dpi=DPI)
        words = " ".join(words.split())
        out.append(
            Entry(name=make.__name__, title=title.rstrip("."), words=words, code=shown(make), png=stream.getvalue())
        )
    return out


def shown(make: Callable[[Any], Any]) -> str:
    """The lines of a function under its docstring, as a reader types them."""
    body = inspect.getsource(make).split('"""', 2)[2]
    return "import bayeslmm as blm\n\n" + dedent(body).strip().replace("return ", "", 1)


def write_page(folder: Path) -> None:
    """Write the page of Markdown and its pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Pictures",
        "Every picture that a model, a fit or a posterior draws of itself. Each is a method that returns a "
        '`matplotlib` figure, which a notebook shows and `.savefig("picture.png")` keeps; `ax=` or `axes=` draw into '
        "axes of your own.",
    ]
    for entry in entries():
        (folder / f"{entry.name}.png").write_bytes(entry.png)
        parts += [f"## {entry.title}", f"![{entry.title}]({entry.name}.png)", entry.words]
        parts.append(f"```python\n{entry.code}\n```")
    (folder / "index.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def html_page() -> str:
    """The same as one HTML file that fetches nothing."""
    style = (
        "body { font: 16px/1.5 system-ui, sans-serif; max-width: 820px; margin: 0 auto; padding: 1rem; } "
        "img { width: 100%; } pre { background: #f5f5f5; padding: 0.7rem; overflow-x: auto; }"
    )
    parts = []
    for entry in entries():
        data = b64encode(entry.png).decode("ascii")
        title = escape(entry.title)
        parts.append(
            f'<h2>{title}</h2>\n<img alt="{title}" src="data:image/png;base64,{data}">\n<p>{escape(entry.words)}</p>\n'
            f"<pre>{escape(entry.code)}</pre>"
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Pictures</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n<h1>Pictures</h1>\n{chr(10).join(parts)}\n</body>\n</html>\n"
    )


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path[0] = str(ROOT)  # the checkout, not what is installed
    target = ROOT / "docs" / "_build" / "pictures.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html_page(), "utf-8")
    print(f"Open {target}")
