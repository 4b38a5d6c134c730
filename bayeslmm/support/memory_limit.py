"""Memory that runs out, whatever a library calls it, and what a limit on the process leaves."""

from __future__ import annotations

import errno
from typing import Any

from bayeslmm.errors import OutOfMemoryError

resource: Any
try:  # now, while there is memory for it
    import resource
except ImportError:  # Windows has no such limits
    resource = None

NUTS_TAKES = 500e6  # bytes of address space for compiling a PyMC model and running it in threads
KERNELS_TAKE = 64e6  # the same for loading the kernels
COMPILING_TAKES = 160e6  # and for compiling them
FEW = 100e6  # bytes of address space with which a library may not be loaded


def ran_out(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, which a library that can't be loaded for it calls something else.

    Examples
    --------
    >>> ran_out(ImportError("x.so: failed to map segment from shared object")), ran_out(OSError())
    (True, False)
    """
    if isinstance(error, ImportError) and address_space_left() < FEW:
        return True
    if isinstance(error, SystemError) and address_space_left() < float(
        "inf"
    ):  # C code that came back without its error
        return True
    while error is not None:
        text = str(error).lower()
        if "failed to map segment" in text or "cannot allocate memory" in text or "allocation failed" in text:
            return True
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


def address_space_left() -> float:
    """Bytes that the limit on this process's address space (`ulimit -v`) leaves; infinite where there is none."""
    if resource is None or resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return float("inf")
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            taken = int(file.read(200).split()[0]) * resource.getpagesize()
    except FileNotFoundError:  # a system without /proc doesn't say
        return float("inf")
    except (OSError, MemoryError, SystemError):  # not even enough to ask
        return 0.0
    return float(resource.getrlimit(resource.RLIMIT_AS)[0] - taken)


def require_address_space(needed: float, doing: str, instead: str = "") -> None:
    """Refuse work for which the limit leaves too little: a compiler that runs out of memory ends the process.

    Raises
    ------
    OutOfMemoryError
    """
    left = address_space_left()
    if left < needed:
        raise OutOfMemoryError(
            f"{doing} about {gigabytes(needed)} of address space, and the limit on this process (ulimit -v) leaves "
            f"{gigabytes(max(left, 0.0))}. Raise the limit{instead}."
        )


def gigabytes(size: float) -> str:
    """Bytes as MB or GB, two digits."""
    size, unit = (size / 1e9, "GB") if size >= 1e9 else (size / 1e6, "MB")
    return f"{float(f'{size:.2g}'):,g} {unit}"
