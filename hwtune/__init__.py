"""hwtune: searches for the best classifier for a set of handwriting, and says how sure it is."""

import os
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwtune.api import (
        load_classifier,
        load_space,
        load_study,
        retrain_baseline,
        run_study,
    )

__version__ = "0.1.0"
# Ray reads these when it is imported.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # hwtune stops a study itself
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000000")  # and keeps its own records
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# This makes a local cluster listen on loopback alone, on Linux too; without it Ray's own ports
# would be open to the network, guarded by its token only. An address of a cluster sets it to 1.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, where a notebook lacks widgets
__all__ = ["load_classifier", "load_space", "load_study", "retrain_baseline", "run_study"]


def __getattr__(name: str) -> Any:
    """Import what notebooks use when it is asked for: it takes a moment, which --help has not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hwtune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """Return what a notebook completes."""
    return sorted({*globals(), *__all__})
