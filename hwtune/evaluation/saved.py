"""A finished model on disk, written without torch; `classifier` reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save

from hwtune.config import TrialConfig
from hwtune.contract import TestRecord
from hwtune.files import dump, text_of, write_atomic

ONNX_FILE = "model.onnx"  # of an exported model


def save_model(
    folder: Path,
    weights: dict[str, NDArray[Any]],
    config: TrialConfig,
    classes: Sequence[str],
    *,
    side: int,
) -> str:
    """Write `model.safetensors` and `model.json` into `folder`; return the sha256 of the former.

    Args:
        side: of the data set's images, in pixels.
    """
    folder.mkdir(exist_ok=True)
    (folder / ONNX_FILE).unlink(missing_ok=True)  # of the weights that go now
    content = save(weights)
    write_atomic(folder / "model.safetensors", content)
    preprocessing = {"side": side, "scaled_to": config.side or side, "pixels": config.pixel_scale}
    about: dict[str, Any] = {
        "config": config.to_dict(),
        "classes": list(classes),
        "preprocessing": preprocessing,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomic(folder / "model.json", dump(about))
    return str(about["weights_sha256"])


def is_of_record(folder: Path, entry: TestRecord) -> bool:
    """Return whether the model in `folder` is the one that a record tells of.

    Older records have no hash of its weights; the configuration must do.
    """
    try:
        about = json.loads(text_of(folder / "model.json"))
        weights = about["weights_sha256"]
        same = entry["config"] == about["config"]
        return bool(same and entry.get("weights_sha256", weights) == weights)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
