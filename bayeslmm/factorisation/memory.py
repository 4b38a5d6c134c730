"""How much memory a design needs, said before it is taken and where it isn't there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, OutOfMemoryError
from bayeslmm.factorisation.conditioning import PIECE
from bayeslmm.factorisation.plan import plan_elimination
from bayeslmm.support.memory_limit import gigabytes, ran_out

COPIES_OF_X = 3  # X itself, its orthonormal basis, the columns that default priors are stated for
COPIES_OF_PIECE = 5  # of the columns that are worked on at a time
COPIES_OF_TAIL = 8  # the Schur complement, its factor, and what value and gradient take; as in `explain`
COPIES_OF_PANELS = 5  # the same of a sparse tail: products, Schur complement, factor, inverse, and places
COPIES_OF_ROOT = 4
LARGE = 1e9  # bytes at the peak from which they are worth a word


def needed(design: Design) -> dict[str, float]:
    """Bytes at the peak by what takes them, the largest first.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> needed(lmm.design)
    {'X (6 x 1)': 384.0, 'the columns of the levels': 288.0}
    """
    rows, X, n = sum(level.m for level in design.levels), design.counted.X, design.counted.X.shape[0]
    plan = plan_elimination(design)
    tail = f"{plan.tail_columns:,} x {plan.tail_columns:,}"
    kind, copies = ("dense", COPIES_OF_TAIL) if plan.pattern is None else ("sparse", COPIES_OF_PANELS)
    sizes = {
        f"X ({n:,} x {design.p:,})": 8.0 * (COPIES_OF_X * X.size + COPIES_OF_PIECE * min(X.size, n * PIECE)),
        "the columns of the levels": 8.0 * sum(6 * level.columns.size for level in design.levels),
        f"the {kind} block of the crossed levels ({tail})": 8.0 * copies * plan.stored,
        f"known covariances of {rows:,} groups": 8.0
        * COPIES_OF_ROOT
        * sum(level.relation.size for level in design.levels if level.relation is not None),
    }
    return {what: size for what, size in sorted(sizes.items(), key=lambda item: -item[1]) if size}


def in_words(design: Design) -> str:
    """The peak in words, such as "about 2.4 GB, most of it for X (50,000 x 1,000)"."""
    sizes = needed(design)
    return f"about {gigabytes(sum(sizes.values()))}, most of it for {next(iter(sizes), 'y')}"


def say_if_large(design: Design) -> None:
    """Say on stderr what the peak will be, where it is large enough to be a surprise."""
    if sum(needed(design).values()) > LARGE:
        print(f"bayeslmm: this model takes {in_words(design)}.", file=sys.stderr)


@contextmanager
def enough_memory(design: Design | None = None, doing: str = "The fit") -> Iterator[None]:
    """Context in which memory that runs out is this project's own error, with what is needed.

    Raises
    ------
    OutOfMemoryError
    """
    try:
        yield
    except BayesLMMError:
        raise
    except (MemoryError, OSError, ImportError, SystemError) as error:
        if not ran_out(error):
            raise
        said = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(f"{doing} ran out of memory{said}. {_remedy(design)}") from error


def _remedy(design: Design | None) -> str:
    if design is None:
        return "Use fewer rows or columns, or a machine (or a limit, `ulimit -v`) with more of it."
    return (
        f"It needs {in_words(design)}, beside about 500 MB for Python and its libraries. "
        "Fit a subset of the rows or groups, make a fixed factor of many levels a grouping, (1 | factor), keep fewer "
        "draws, or use a machine (or a limit, `ulimit -v`) with more of it."
    )
