"""The interactive pages, each one file without a server or a network: `python docs/interactive_pages.py`.

A page is `docs/interactive/source/NAME.html` with the shared style and script put in. What comes out is committed, so
that it opens from a checkout; `tests/test_interactive.py` says if it is out of date.
"""

from __future__ import annotations

from pathlib import Path

PAGES = Path(__file__).resolve().parent / "interactive"
SOURCE = PAGES / "source"
NAMES = {  # and what moves there
    "sd": "three SDs; log p(y), V and the effects follow",
    "shrinkage": "an odd county, its size, the SDs; every county's mean follows",
    "prior": "a prior's family and scale; the posterior of an SD and of the ICC follow",
    "formula": "a formula, as you type it; X, Z, V and the tree of groups follow",
    "funnel": "the step, the start, how centred; a sampler's path follows, or diverges",
}


def page(name: str) -> str:
    """A page's HTML, whole."""
    text = (SOURCE / f"{name}.html").read_text("utf-8")
    style, script, links = ((SOURCE / part).read_text("utf-8") for part in ("page.css", "page.js", "links.html"))
    text = text.replace("<!-- page.css -->", f"<style>\n{style}</style>")
    text = text.replace("<!-- page.js -->", f"<script>\n{script}</script>")
    return text.replace("<!-- links.html -->", links)


def question(name: str) -> str:
    """The title of a page, which is the question that it answers."""
    return page(name).split("<h1>")[1].split("</h1>")[0]


def main() -> None:
    """Write all pages."""
    for name in NAMES:
        (PAGES / f"{name}.html").write_text(page(name), "utf-8")
        print(f"docs/interactive/{name}.html: {question(name)}")


if __name__ == "__main__":
    main()
