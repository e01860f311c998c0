"""Heavy imports made quick."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Spare Python's garbage collector what the block imports, which stays until the process ends.

    Otherwise it walks through all of torch again and again while torch comes, and once more when
    the process ends: a second and a half of three.
    """
    enabled, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:  # else it would keep garbage, in a process that works again
            gc.freeze()
        if enabled:
            gc.enable()
