"""The command line: compare, check, fit, predict, schema.

Nothing heavy is imported before the arguments are understood, and PyMC only where a posterior is sampled.
"""

from bayeslmm.cli.entry import FAILED, INTERRUPTED, OK, USAGE, main, run

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "main", "run"]
