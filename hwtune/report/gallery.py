"""The misread test images, as pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from hwtune.contract import About, MisreadImage
from hwtune.data import find_again
from hwtune.data.images import Bytes, Dataset
from hwtune.data.own import picture_files

MOST = 1000  # pictures of a page


@dataclass(frozen=True, kw_only=True)
class Misread:
    """A test image and what was read in it.

    Attributes:
        source: a data URL.
        writer: None where nobody knows.
        file: of a data set of one's own, else "".
    """

    source: str
    true: str
    predicted: str
    image: int
    writer: int | None
    file: str


def misread_images(about: About, misread: Sequence[MisreadImage]) -> list[Misread]:
    """Return the pictures of a study's misread images, none where its data is not at hand."""
    dataset = find_again(about["data"]) if misread else None
    return gallery(dataset, misread, picture_files(dataset.name)) if dataset else []


def gallery(
    dataset: Dataset, misread: Sequence[MisreadImage], files: Sequence[str] = ()
) -> list[Misread]:
    """Return the pictures of at most `MOST` misread images of all classes, one after the other.

    Args:
        files: of all images of the data set, where they have files.
    """
    order = sorted(misread, key=lambda each: (each["true"], each["predicted"], each["image"]))
    shown = min(MOST, len(order))
    return [
        Misread(
            source=picture(dataset.images[each["image"]]),
            true=dataset.classes[each["true"]],
            predicted=dataset.classes[each["predicted"]],
            image=each["image"],
            writer=None if dataset.writers is None else int(dataset.writers[each["image"]]),
            file=files[each["image"]] if files else "",
        )
        for each in (order[place * len(order) // shown] for place in range(shown))
    ]


def picture(pixels: Bytes) -> str:
    """Return a grey image (S, S) as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
