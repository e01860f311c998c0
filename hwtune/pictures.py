"""Pictures made of images of a data set, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hwtune.data.images import Bytes

TILE, GAP = 64, 2  # pixels
PAPER, INK, GOOD = (255, 255, 255), (60, 66, 76), (27, 127, 95)
BAD = np.array([194, 69, 61])


def tiled(rows: Sequence[Sequence[Bytes]]) -> Bytes:
    """Return grey images (S, S) in rows, as one grey picture."""
    return np.vstack([
        np.hstack([np.pad(enlarged(each), GAP // 2, constant_values=128) for each in row])
        for row in rows
    ])  # fmt: skip


def enlarged(image: Bytes) -> Bytes:
    """Return a grey image (S, S) as about TILE pixels, none of its own lost."""
    times = max(1, TILE // image.shape[0])
    return image.repeat(times, axis=0).repeat(times, axis=1)


def confusion_picture(matrix: Sequence[Sequence[int]], examples: Bytes) -> Bytes:
    """Return a confusion matrix as a picture (H, W, 3), its errors in red.

    Args:
        matrix: a row a written class, a column for what it was read as.
        examples: a grey image (C, S, S) of each class, as the titles: no font has every script.
    """
    count, cell, head = len(matrix), TILE // 2, TILE
    size = head + count * cell
    picture = Image.new("RGB", (size, size), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    draw.text((head - 4, 2), "read as", INK, font, anchor="ra")
    draw.text((2, head - 4), "written", INK, font, anchor="ls")
    most = max([1, *(n for r, row in enumerate(matrix) for c, n in enumerate(row) if r != c)])
    for number, example in enumerate(examples):
        title = Image.fromarray(255 - example).resize((cell - 4, cell - 4), Image.Resampling.BOX)
        start = head + number * cell + 2
        picture.paste(title, (start, head - cell + 2))
        picture.paste(title, (head - cell + 2, start))
    for r, row in enumerate(matrix):
        for c, n in enumerate(row):
            if not n:
                continue
            x, y = head + c * cell, head + r * cell
            if r != c:
                shade = 0.25 + 0.75 * n / most
                red = tuple(int(v) for v in 255 + (BAD - 255) * shade)
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), red)
            colour = GOOD if r == c else INK if n / most < 0.5 else PAPER
            draw.text((x + cell / 2, y + cell / 2), str(n), colour, font, anchor="mm")
    draw.rectangle((head - 1, head - 1, size - 1, size - 1), outline=(200, 204, 210))
    return np.asarray(picture)
