"""Build the pages into docs/_build/html: `python docs/build.py`. A warning, such as a broken reference, fails it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import gallery_pictures
import interactive_pages

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BUILD = DOCS / "_build"
PAGES = BUILD / "pages"
EXTRA = BUILD / "extra"  # copied as it is
ROWS = 6  # of a table that a page shows


def write_pages() -> None:
    """Write every page that is made of something else: README, the gallery, the notebooks, the interactive pages."""
    for folder in (PAGES, EXTRA):
        shutil.rmtree(folder, ignore_errors=True)
    write_notebooks(PAGES / "notebooks")
    write_interactive(EXTRA / "interactive")
    shutil.copytree(DOCS / "thumbnails", PAGES / "thumbnails")
    for page in ("glossary.md", "claims.md", "scale.md"):
        text = (DOCS / page).read_text("utf-8").replace("](../notebooks/README.md)", "](notebooks/index.md)")
        (PAGES / page).write_text(text.replace("](../", "]("), "utf-8")
    (PAGES / "gallery").mkdir()
    for page in ("api.rst", "heights.png"):
        shutil.copy(DOCS / page, PAGES)
    write_gallery(PAGES / "gallery")
    gallery_pictures.write_page(PAGES / "pictures")
    (PAGES / "index.md").write_text(landing((ROOT / "README.md").read_text("utf-8")), "utf-8")


def landing(readme: str) -> str:
    """README up to its measurements, with the way to the other pages."""
    beginning = readme.split("\n## How it is fast")[0].replace("](docs/", "](")
    beginning = beginning.replace("](notebooks/README.md)", "](notebooks/index.md)")
    beginning = interactive_links(beginning)
    pages = ("notebooks/index", "interactive", "glossary", "claims", "scale", "api", "gallery/index", "pictures/index")
    return "\n".join([f"{beginning}\n\n```{{toctree}}\n:hidden:\n", *pages, "```\n"])


class NotebookRow(NamedTuple):
    """A line of the table in notebooks/README.md."""

    name: str
    question: str
    picture: str
    data: str


def notebook_rows() -> list[NotebookRow]:
    """The notebooks, in the order of the table that lists each of them once."""
    table = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    line = r"^\| \[\d+\]\((\w+)\.ipynb\) \|([^|]*)\|([^|]*)\|([^|]*)\|"
    rows = [NotebookRow(*(cell.strip() for cell in row)) for row in re.findall(line, table, flags=re.MULTILINE)]
    if sorted(row.name for row in rows) != sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")):
        raise ValueError("notebooks/README.md doesn't list the notebooks that there are, each once.")
    return rows


def interactive_links(text: str) -> str:
    """Links to the interactive pages as HTML, since these pages aren't Sphinx's."""
    shown = r"\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]"
    return re.sub(shown + r"\(((?:\.\./)*)interactive/(\w+\.html)\)", r'<a href="\2interactive/\3">\1</a>', text)


def write_interactive(folder: Path) -> None:
    """Copy the interactive pages, with links to pages instead of to files, and write the page that lists them."""
    folder.mkdir(parents=True)
    lines = []
    for name, moves in interactive_pages.NAMES.items():
        text = re.sub(r'"\.\./\.\./notebooks/(\w+)\.ipynb"', r'"../notebooks/\1.html"', interactive_pages.page(name))
        (folder / f"{name}.html").write_text(text.replace('"../glossary.md"', '"../glossary.html"'), "utf-8")
        question, link = interactive_pages.question(name), f'<a href="interactive/{name}.html">'
        lines.append(f"| {link}![{question}](thumbnails/{name}.png)<br>{question}</a> | {moves} |")
    words = (
        "Each is one file of plain HTML, which also works when saved and opened without a network, on a phone and by\n"
        "the keyboard. The numbers are computed in the page, and tested to be those of the package. A link can say\n"
        "where to begin, as in `sd.html#sigma_u3=0&sigma=0.2`: the names are those of the controls."
    )
    listed = "\n".join(["| question | what moves |", "|---|---|", *lines])
    (PAGES / "interactive.md").write_text(f"# Pages to move\n\n{words}\n\n{listed}\n", "utf-8")


def write_notebooks(folder: Path) -> None:
    """Write the notebooks, and the page that lists them, with the first picture of each."""
    folder.mkdir(parents=True)
    table = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    names = [row.name for row in notebook_rows()]
    for name in names:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
        notebook = json.loads(text.replace("](../docs/", "](../").replace("](README.md)", "](index.md)"))
        picture, end = opening_picture(notebook)
        for cell in notebook["cells"][
            :end
        ]:  # folded away, so that the page opens with the picture and not with its code
            if cell["cell_type"] == "code":
                cell["metadata"]["tags"] = ["hide-input"]
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), "utf-8")
        (folder / f"{name}.png").write_bytes(picture)
    table = re.sub(
        r"^(\| \[\d+\]\((\w+)\.ipynb\) \|[^|]*\|)([^|]*)\|",
        r"\1 ![\3](\2.png){width=220px}<br>\3 |",
        table,
        flags=re.MULTILINE,
    )
    tree = "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])
    table = interactive_links(table.replace("](../docs/", "](../"))
    (folder / "index.md").write_text(f"{table}\n{tree}\n", "utf-8")


def opening_picture(notebook: dict) -> tuple[bytes, int]:
    """A notebook's first picture, as PNG, and the number of cells up to it."""
    for end, cell in enumerate(notebook["cells"], start=1):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode("".join(output["data"]["image/png"])), end
    raise ValueError("A notebook has no picture.")


def write_gallery(folder: Path) -> None:
    """Write one page per example, and one that lists them."""
    from bayeslmm.gallery import example_names

    lines = []
    for name in example_names():
        title, text = example_page(name)
        (folder / f"{name}.md").write_text(text, "utf-8")
        lines.append(f"| [`{name}`]({name}.md) | {title} |")
    listed = "\n".join(["| name | what it is |", "|---|---|", *lines])
    tree = "\n".join(["```{toctree}", ":hidden:", "", *example_names(), "```"])
    words = (
        "Models with their data that come with the package: in Python `blm.example(name)` is the model and\n"
        "`blm.example_data(name)` its table; in a shell, `bayeslmm compare NAME`, `check NAME` and `fit NAME`."
    )
    (folder / "index.md").write_text(f"# Gallery\n\n{words}\n\n{listed}\n\n{tree}\n", "utf-8")


def example_page(name: str) -> tuple[str, str]:
    """Title and page of an example: its story, its description, its table, and what the model says of itself."""
    import bayeslmm as blm
    from bayeslmm.description.model_file import ModelFile
    from bayeslmm.gallery import example_path

    path = example_path(name)
    file = ModelFile.read(path)
    kind = "lmm" if file.outcome is None else "glmm"
    frame = file.load_data()
    source = re.sub(r"https?://\S+[\w/]", r"<\g<0>>", file.source)
    parts = [
        f"# {file.title}",
        file.notes.strip(),
        f"*Source*: {source}",
        f'```python\n{kind} = blm.example("{name}")\n```',
        "## The description",
        f"```toml\n{path.read_text('utf-8').strip()}\n```",
        "## The data",
        f"The first {min(ROWS, len(frame))} of {len(frame):,} rows:",
        pipe_table(frame.head(ROWS)),
        "## What the model is",
        f"```text\n{blm.example(name).describe()}\n```",
    ]
    return file.title, "\n\n".join(parts) + "\n"


def pipe_table(frame) -> str:
    """A data frame as a table of Markdown."""
    shown = frame.map(lambda cell: f"{cell:.6g}" if isinstance(cell, float) else str(cell))
    rows = [list(frame.columns), ["---"] * frame.shape[1], *shown.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Build all of it; the exit code is Sphinx's."""
    from sphinx.cmd.build import main as sphinx

    write_pages()
    options = ["-b", "html", "-c", DOCS, "-d", BUILD / "doctrees", "-W", "--keep-going", "-q", "-n"]
    code = sphinx([str(part) for part in (*options, PAGES, BUILD / "html")])
    if code == 0:
        print(f"Open {BUILD / 'html' / 'index.html'}")
    return code


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path[0] = str(ROOT)  # the checkout, not what is installed
    sys.exit(main())
