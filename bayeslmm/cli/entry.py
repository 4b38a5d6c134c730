"""From the arguments of a shell to a command and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

import bayeslmm
from bayeslmm.cli.arguments import UsageError
from bayeslmm.cli.commands import check, compare, fit, schema
from bayeslmm.cli.interrupts import noted_interrupts
from bayeslmm.cli.predicting import predict
from bayeslmm.cli.printing import plain, say
from bayeslmm.cli.reporting import report
from bayeslmm.errors import BayesLMMError
from bayeslmm.support.memory_limit import ran_out

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def build_parser() -> App:
    """Return the parser: the subcommands, their options and their help."""
    app = App(
        name="bayeslmm",
        help="Multilevel linear mixed models: the joint model, the exact marginal, ML and REML, compared.",
        version=lambda: f"bayeslmm {bayeslmm.__version__}",
        help_epilogue="Exit codes: 0 done, 1 the input cannot be used, 2 wrong usage, 130 interrupted.",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for command in (compare, check, fit, predict, report, schema):
        app.command(command)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every expected error is one message on stderr.

    Examples
    --------
    >>> main(["--version"])
    bayeslmm 0.1.0
    0
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    with noted_interrupts() as interrupts:
        try:
            build_parser()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
            return say("Interrupted, when all was done.", INTERRUPTED) if interrupts else OK
        except (CycloptsError, UsageError) as error:
            return say(f"{plain(error)} See bayeslmm --help.", USAGE)
        except KeyboardInterrupt:
            return say("Interrupted.", INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has gone, as in `| head`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return FAILED
        except BayesLMMError as error:
            return say(str(error), INTERRUPTED if interrupts else FAILED)
        except (MemoryError, ImportError, OSError, SystemError) as error:
            if ran_out(error):
                return say("Memory ran out. Use fewer rows or draws, or raise the limit (ulimit -v).", FAILED)
            if not isinstance(error, OSError):
                raise
            unnamed = "What is printed, or a temporary file"
            return say(f"{error.filename or unnamed}: {error.strerror or error}", FAILED)


def run() -> None:
    """Console entry: run and exit."""
    code = main()
    if code == INTERRUPTED:  # a sampler's threads may still run, and must not meet an interpreter that is taken down
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
