"""What the commands say of a model and of what was found."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bayeslmm.cli.models import Model
from bayeslmm.errors import visible

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.lmm import LMM


def description(model: Model) -> str:
    """Title, formula, the hierarchy in words, and what deserves a second look."""
    words = [model.lmm.hierarchy.formula, "", model.lmm.describe()]
    return "\n".join([*title(model), *words, *notes(model)])


def title(model: Model) -> list[str]:
    """The title, where the description has one."""
    return [model.about["title"]] if "title" in model.about else []


def notes(model: Model) -> list[str]:
    """What deserves a second look, a line each."""
    return [f"Note: {hint}" for hint in model.lmm.design.hints]


def priors(lmm: LMM) -> str:
    """The table of priors with their reasons."""
    table = lmm.priors.table()
    widths = [max(map(len, map(str, [name, *table[name]]))) for name in table.columns]
    lines = [table.columns, *table.itertuples(index=False)]
    cells = [[str(x).ljust(w) for x, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def posterior(lmm: LMM, variant: str, tree: xr.DataTree, random_effects: bool) -> str:
    """The posterior's part of the comparison table."""
    from bayeslmm.comparison.comparison import compare_posteriors

    table = compare_posteriors(lmm, {variant: tree}, random_effects=random_effects).shown[variant]
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
