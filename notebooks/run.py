"""Run the notebooks, each in a fresh kernel, and say how long each took: ``python notebooks/run.py [name ...]``.

A cell that fails, or more than three minutes for a notebook, fails the run. With ``--write`` the notebooks are written
back as they are committed: with outputs, without a trace of the machine (timestamps, versions, how an output was cut
into pieces). Where a cell fails, nothing is written.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
SECONDS = 180  # that a notebook may take on two cores
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def compile_kernels() -> None:
    """Have the package compile what it compiles once per installation, so that no notebook's time has it."""
    subprocess.run([sys.executable, "-c", "import bayeslmm; bayeslmm.example('dyestuff').reml()"], check=True)


def execute(path: Path):
    """Execute a notebook in its folder, with this checkout's package, and return it."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, coalesce_streams=True)
    client.execute()
    return notebook


def write(notebook, path: Path) -> None:
    """Write an executed notebook as it is committed."""
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


def main(arguments: list[str] | None = None) -> int:
    """Run what is named, or all; the exit code is 1 where one failed."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description="Run the notebooks, each in a fresh kernel.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)}; all of them if none is given")
    parser.add_argument("--write", action="store_true", help="write them back with their outputs")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"there is no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    compile_kernels()
    failed = []
    for name in given.names or known:
        start = time.monotonic()
        try:
            notebook = execute(known[name])
        except CellExecutionError as error:
            print(f"{name}: FAILED\n{error}", flush=True)
            failed.append(name)
            continue
        seconds = time.monotonic() - start
        late = "" if seconds < SECONDS else f", more than the {SECONDS} s that it may"
        print(f"{name}: {seconds:.0f} s{late}", flush=True)
        if late:
            failed.append(name)
        if given.write:
            write(notebook, known[name])
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
