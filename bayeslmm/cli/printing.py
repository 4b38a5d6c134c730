"""What the commands say of a model and of what was found."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from bayeslmm.cli.models import Model
from bayeslmm.errors import visible

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.glmm import GLMM
    from bayeslmm.lmm import LMM


def description(model: Model) -> str:
    """Title, formula, the hierarchy in words, and what deserves a second look."""
    words = [model.formula, "", model.of.describe()]
    return "\n".join([*title(model), *words, *notes(model)])


def title(model: Model) -> list[str]:
    """The title, where the description has one."""
    return [model.about["title"]] if "title" in model.about else []


def notes(model: Model) -> list[str]:
    """What deserves a second look, a line each."""
    return [f"Note: {hint}" for hint in model.of.design.hints]


def priors(model: Model) -> str:
    """The table of priors with their reasons."""
    table = model.of.priors.table()
    widths = [max(map(len, map(str, [name, *table[name]]))) for name in table.columns]
    lines = [table.columns, *table.itertuples(index=False)]
    cells = [[str(x).ljust(w) for x, w in zip(line, widths, strict=True)] for line in lines]
    scale = f"in units of {model.of.hierarchy.response}"
    if not model.gaussian:
        scale = f"on the {model.verb('family').link} scale"
    return "\n".join([f"Priors ({scale}):", *("  ".join(line).rstrip() for line in cells)])


def posterior(model: Model, variant: str, tree: xr.DataTree, random_effects: bool) -> str:
    """The posterior's part of the comparison table."""
    if model.gaussian:
        from bayeslmm.comparison.comparison import compare_posteriors

        table = compare_posteriors(cast("LMM", model.of), {variant: tree}, random_effects=random_effects).shown[variant]
    else:
        from bayeslmm.cli.link_table import parameter_table

        table = parameter_table(cast("GLMM", model.of), tree, random_effects)
    note = tree.attrs.get("note")
    return f"Posterior of the {variant} model\n{table.to_string()}" + (f"\n\n{note}" if note else "")


def plain(error: Exception) -> str:
    """A usage error in one line."""
    return " ".join(str(error).split())


def say(message: str, code: int) -> int:
    """Say what went wrong on stderr, and return the exit code."""
    show(f"bayeslmm: {message}", file=sys.stderr)
    return code


def show(text: object, **options: Any) -> None:
    """Print what may hold labels from a file, without what a terminal would obey."""
    print(visible(str(text)), **options)
