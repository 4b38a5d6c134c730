"""Run the notebooks and write them back as they are committed: ``python -m tests.write_notebooks [name ...]``.

What a run leaves behind of its machine is left out: timestamps, versions, how the output was cut into pieces. Where a
cell fails, nothing is written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def write(path: Path) -> None:
    """Execute one notebook in its folder, with this checkout's package, and write it back."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def _joined(outputs: list) -> list:
    """Put what was printed in pieces, as the kernel's clock cut it, into one output."""
    out: list = []
    for output in outputs:
        if out and output.output_type == out[-1].output_type == "stream" and output.name == out[-1].name:
            out[-1].text += output.text
        else:
            out.append(output)
    return out


if __name__ == "__main__":
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if len(sys.argv) == 1 or notebook.stem in sys.argv[1:]:
            write(notebook)
            print(f"{notebook.relative_to(ROOT)}: executed and written")
