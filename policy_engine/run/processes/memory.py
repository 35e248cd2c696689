"""Bounds that the system puts on this process's memory."""

from __future__ import annotations

import sys


def is_memory_bounded() -> bool:
    """True if allocations of this process fail from a size on, as under `ulimit -v`.

    Compiled code, such as a tokenizer's, then ends the whole process: no error can be caught, and no file closed. A
    container's bound is another thing: there the system kills a process, whichever it takes.
    """
    if sys.platform == "win32":
        return False
    import resource

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)
