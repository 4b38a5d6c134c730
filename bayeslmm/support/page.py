"""A page of HTML that needs nothing else: sections with tables, pictures inside, written whole."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import DescriptionError
from bayeslmm.support.arguments import check_path
from bayeslmm.support.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("pymc", "pytensor", "nutpie", "arviz", "numpy", "scipy", "pandas", "numba", "formulaic")


def page(title: str, sections: Mapping[str, str], *, source: str | None = None, notes: str | None = None) -> str:
    """Return a page: its title, notes and source, and a heading for each section's HTML.

    Examples
    --------
    >>> "<h2>Data</h2>" in page("Heights", {"Data": "<p>18 rows</p>"})
    True
    """
    head = [f"<h1>{escape(title)}</h1>"]
    head += [f"<p>{escape(part)}</p>" for part in (notes or "").strip().split("\n\n") if part]
    if source:
        head.append(f'<p class="small">Source: {escape(source)}</p>')
    body = "\n".join(head) + "".join(f"\n<h2>{escape(name)}</h2>\n{content}" for name, content in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def write_page(path: Any, make: Callable[[], str]) -> Path:
    """Make a page and write it in one step, after a look at the path; missing folders are made, a file is replaced.

    Raises
    ------
    DescriptionError
        If the path is none, is a folder, or can't be written to.
    """
    path = check_path(path, "report.html")
    if path.is_dir():
        raise DescriptionError(f"The report is a file and {path} a folder; write {str(path / 'report.html')!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    text = make()
    try:
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _unwritable(path: Path, error: OSError) -> DescriptionError:
    return DescriptionError(
        f"The report can't be written to {path}: {error.strerror or error}. Give a path where you may write, "
        "such as 'report.html'."
    )


def picture(figure: Figure, caption: str) -> str:
    """Embed a figure with its caption."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=144)
    data = b64encode(stream.getvalue()).decode("ascii")
    alt = escape(caption, quote=True)
    return (
        f'<figure><div class="scroll"><img alt="{alt}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def versions() -> str:
    """Say what computed the page: the versions of Python and of the packages."""
    from bayeslmm import __version__

    found = ", ".join([f"bayeslmm {__version__}", *(f"{name} {_version(name)}" for name in PACKAGES)])
    return f"<p class='small'>Python {python_version()}; {escape(found)}.</p>\n"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 58rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
.scroll { overflow-x: auto; width: fit-content; max-width: min(100vw - 2rem, 50vw + 28rem); }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.55rem; text-align: right; white-space: nowrap; }
tbody th { text-align: left; font-weight: 500; } thead tr:last-child th { border-bottom: 1px solid #888; }
thead tr:first-child:not(:last-child) th { text-align: center; }
table.words td, table.words th { text-align: left; vertical-align: top; }
table.words td:last-child { white-space: normal; min-width: 14rem; }
.equation { margin: 0.3rem 0 0.3rem 2rem; font: 1.1rem/1.6 Georgia, serif; }
.small { font-size: 0.85rem; color: #555; } .note { border-left: 3px solid #e69f00; padding-left: 0.7rem; }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
figure { margin: 1.2rem 0; break-inside: avoid; } img { max-width: 100%; min-width: 34rem; height: auto; }
figcaption { font-size: 0.9rem; color: #444; max-width: 46rem; }
@media print { body { max-width: none; font-size: 11px; }
  .scroll { overflow: visible !important; max-width: none; } img { min-width: 0; } }
"""
