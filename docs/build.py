"""Build the pages into docs/_build/html: `python docs/build.py`. A warning, such as a broken reference, fails it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sys
from pathlib import Path

import gallery_pictures

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BUILD = DOCS / "_build"
PAGES = BUILD / "pages"
ROWS = 6  # of a table that a page shows


def write_pages() -> None:
    """Write every page that is made of something else: README, the gallery, the notebooks."""
    shutil.rmtree(PAGES, ignore_errors=True)
    write_notebooks(PAGES / "notebooks")
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
    pages = ("notebooks/index", "glossary", "claims", "scale", "api", "gallery/index", "pictures/index")
    return "\n".join([f"{beginning}\n\n```{{toctree}}\n:hidden:\n", *pages, "```\n"])


def write_notebooks(folder: Path) -> None:
    """Write the notebooks, and the page that lists them, with the first picture of each."""
    folder.mkdir(parents=True)
    table = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    names = re.findall(r"^\| \[\d+\]\((\w+)\.ipynb\)", table, flags=re.MULTILINE)
    if sorted(names) != sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")):
        raise ValueError("notebooks/README.md doesn't list the notebooks that there are, each once.")
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
    (folder / "index.md").write_text(f"{table.replace('](../docs/', '](../')}\n{tree}\n", "utf-8")


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
