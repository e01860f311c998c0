"""Heavy imports made quick, and the same imports in another process."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Spare Python's garbage collector what the block imports, which stays until the process ends.

    Otherwise it walks through all of torch again and again while torch comes, and once more when
    the process ends: 1.2 of 3.2 seconds (`results/LOG.md`).
    """
    enabled, known = gc.isenabled(), len(sys.modules)
    if gc.get_freeze_count():
        gc.collect()  # what work has left since: it would be kept, too
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if enabled:
            gc.enable()


def import_path() -> str:
    """Return the PYTHONPATH with which another process here imports what this one does."""
    return os.pathsep.join(path for path in sys.path if path)
