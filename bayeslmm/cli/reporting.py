"""The command that puts a saved posterior on one page."""

from __future__ import annotations

from pathlib import Path

from bayeslmm.cli.models import verb
from bayeslmm.cli.predicting import read_saved
from bayeslmm.cli.printing import show
from bayeslmm.cli.targets import writable_file
from bayeslmm.errors import DescriptionError


def report(folder: Path, /, *, out: Path | None = None, title: str | None = None) -> None:
    """Write a report of a saved posterior: one HTML file that opens without a network.

    Parameters
    ----------
    folder
        What fit or lmm.save wrote.
    out
        The report; <name of the folder>-report.html in the current folder if not given.
    title
        Of the page.
    """
    out = writable_file(out or Path(f"{folder.name}-report.html"), {".html", ".htm"}, "The report is a web page")
    saved = read_saved(folder)
    if saved.posterior is None:
        raise DescriptionError(
            f"{folder} holds no posterior, which a report is about. Write bayeslmm fit --variant marginal, or "
            "lmm.save(folder, lmm.sample())."
        )
    write = verb(saved.model, "report")
    name = str(folder)
    code = f"import bayeslmm as blm\n\nsaved = blm.load({name!r})\nsaved.model.report('report.html', saved.posterior)"
    write(out, saved.posterior, title=title, code=code)
    show(f"Report: {out}")
