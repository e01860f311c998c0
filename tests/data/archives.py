"""Small Chinese MNIST archives, whole and broken, made of drawn characters."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

from hwtune.data.chinese_mnist import CLASSES, VALUES
from hwtune.data.strokes import read_strokes


def members(writers: int = 1) -> dict[str, bytes]:
    """Return the files of Kaggle's layout for a few writers, by name."""
    drawn = read_strokes(writers)
    files = {}
    lines = ["suite_id,sample_id,code,value,character"]
    for index, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        writer, sample, code = index // 150 + 1, index % 150 // 15 + 1, int(label) + 1
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG", quality=95)
        files[f"data/data/input_{writer}_{sample}_{code}.jpg"] = content.getvalue()
        lines.append(f"{writer},{sample},{code},{VALUES[code - 1]},{CLASSES[code - 1]}")
    return {"chinese_mnist.csv": "\r\n".join(lines).encode(), **files}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write the files into a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    """Write the files into a folder."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
