"""The command line: compare, check, fit, predict, schema.

Nothing heavy is imported before the arguments are understood, and PyMC only where a posterior is sampled.
"""

import os


def run() -> None:
    """Console entry: run and exit; Ctrl-C is no traceback from the first import on."""
    try:
        from bayeslmm.cli.entry import run as begin
    except KeyboardInterrupt:
        os.write(2, b"bayeslmm: Interrupted.\n")
        os._exit(130)
    begin()
