"""Build the pages into docs/_build/html: `python docs/build.py`. A warning, such as a broken reference, fails it."""

from __future__ import annotations

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
    shutil.copytree(ROOT / "notebooks", PAGES / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (PAGES / "gallery").mkdir()
    for page in ("api.rst", "heights.png"):
        shutil.copy(DOCS / page, PAGES)
    write_gallery(PAGES / "gallery")
    gallery_pictures.write_page(PAGES / "pictures")
    (PAGES / "index.md").write_text(landing((ROOT / "README.md").read_text("utf-8")), "utf-8")


def landing(readme: str) -> str:
    """README up to its measurements, with the way to the other pages."""
    beginning = readme.split("\n## How it is fast")[0].replace("](docs/", "](")
    notebooks = "\n".join(f"notebooks/{path.stem}" for path in sorted((ROOT / "notebooks").glob("*.ipynb")))
    tree = f"```{{toctree}}\n:hidden:\n\napi\ngallery/index\npictures/index\n{notebooks}\n```"
    return f"{beginning}\n\n{tree}\n"


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
