"""A small picture of every notebook and page, and README's tables of them: `python docs/thumbnails.py`.

A notebook's is its opening picture, a page's is taken in a headless Chromium (without one, they stay as they are).
What notebooks there are, and what they ask, is in notebooks/README.md.
"""

from __future__ import annotations

import json
import os
import re
import sys
from io import BytesIO
from pathlib import Path

import interactive_pages
from build import notebook_rows, opening_picture

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "thumbnails"
WIDTH, HEIGHT = 280, 190  # pixels, at most
MAIN = {"sd": "#effects", "shrinkage": "#arrows", "prior": "#densities", "formula": "#tree", "funnel": "#plane"}
HEADS = {"notebooks": "| | question | data |\n|---|---|---|\n", "pages": "| | question | what moves |\n|---|---|---|\n"}


def small(picture: bytes) -> bytes:
    """A picture at the size of a thumbnail, in few colours."""
    from PIL import Image

    image = Image.open(BytesIO(picture)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    out = BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def of_notebooks() -> dict[str, bytes]:
    """The opening pictures, by name."""
    found = {}
    for row in notebook_rows():
        notebook = json.loads((ROOT / "notebooks" / f"{row.name}.ipynb").read_text("utf-8"))
        found[row.name] = small(opening_picture(notebook)[0])
    return found


def of_pages() -> dict[str, bytes]:
    """Each page's main picture, by name; none where there is no Chromium."""
    from tests.browser import CHROMIUM, Browser

    if not CHROMIUM:
        print("There is no Chromium: the pages' thumbnails stay as they are.")
        return {}
    found, browser = {}, Browser()
    try:
        for name in interactive_pages.NAMES:
            browser.open(ROOT / "docs" / "interactive" / f"{name}.html", width=640)
            found[name] = small(browser.picture(f"{MAIN[name]} svg"))
    finally:
        browser.close()
    return found


def tables(readme: str) -> str:
    """README with both tables written anew."""
    notebooks = [
        f"| [![{plain(row.picture)}](docs/thumbnails/{row.name}.png)](notebooks/{row.name}.ipynb) "
        f"| [{row.question}](notebooks/{row.name}.ipynb) | {row.data} |\n"
        for row in notebook_rows()
    ]
    pages = [
        f"| [![{interactive_pages.question(name)}](docs/thumbnails/{name}.png)](docs/interactive/{name}.html) "
        f"| [{interactive_pages.question(name)}](docs/interactive/{name}.html) | {moves} |\n"
        for name, moves in interactive_pages.NAMES.items()
    ]
    for key, rows in (("notebooks", notebooks), ("pages", pages)):
        before, head, after = readme.partition(HEADS[key])
        if not head:
            raise ValueError(f"README has no table that begins with {HEADS[key]!r}.")
        readme = before + head + "".join(rows) + re.sub(r"\A(\|.*\n)*", "", after)
    return readme


def plain(markdown: str) -> str:
    """Without emphasis, for an alternative text."""
    return markdown.replace("*", "")


def main() -> None:
    """Write the pictures and the tables."""
    FOLDER.mkdir(exist_ok=True)
    pictures = of_notebooks() | of_pages()
    for name, picture in pictures.items():
        (FOLDER / f"{name}.png").write_bytes(picture)
    readme = ROOT / "README.md"
    readme.write_text(tables(readme.read_text("utf-8")), "utf-8")
    print(f"{len(pictures)} thumbnails, the largest of {max(map(len, pictures.values())) / 1000:.1f} kB.")


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path[0] = str(ROOT)
    main()
