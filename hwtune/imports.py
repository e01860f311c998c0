"""Heavy imports made quick."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Spare Python's garbage collector what the block imports, which stays until the process ends.

    Otherwise it walks through all of torch again and again while torch comes, and once more when
    the process ends: a second and a half of three.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
