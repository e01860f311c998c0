"""Picture files of one character each, as images of a data set."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hwtune.data.images import Bytes
from hwtune.errors import DataError
from hwtune.words import for_people

MAX_PIXELS = 100_000_000
FEW, SHARE = 4, 200  # pixels that tell what is ink: so many, or one in so many
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # no decoder that starts another program
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff")
OTHER_PICTURES = (  # not read here
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip


def read_image(path: Path, side: int) -> Bytes:
    """Return a picture as (side, side) grey, light ink on black.

    The median of the border is the background. The ink is what differs most from it: where the few
    darkest pixels differ more than the few lightest (half a percent of all; a spot of light should
    be smaller), the picture is inverted. Then the background becomes black, and what is not square
    gets a black margin.

    Raises:
        DataError: when there is no such file, or it is no picture.
    """
    with opened(path) as picture:
        upright = eight_bits(path, turned(picture))
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            paper = Image.new("RGBA", upright.size, paper_of(upright))
            upright = Image.alpha_composite(paper, upright)
        grey = upright.convert("RGB").convert("L")
    pixels = np.asarray(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = int(np.median(border))
    ink = np.arange(256.0)  # of each grey
    few = min(pixels.size, max(FEW, pixels.size // SHARE))
    ordered = np.partition(pixels, (few - 1, pixels.size - few), axis=None)
    if background - ordered[:few].mean() > ordered[-few:].mean() - background:
        ink, background = 255 - ink, 255 - background
    if background:
        ink = (np.maximum(ink, background) - background) * 255 / max(1, 255 - background)
    pixels = ink.round().astype(np.uint8)[pixels]
    if grey.size == (side, side):
        return pixels
    width, height = grey.size
    if max(width, height) >= 2 * side * min(width, height):  # of which nothing would be left
        raise DataError(
            f"{for_people(path)} has {width}x{height} pixels, no character's shape; leave it out."
        )
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (side, side), Image.Resampling.BOX))


def turned(picture: Image.Image) -> Image.Image:
    """Return a picture as its camera was held, where its EXIF data says that and does read."""
    picture.load()  # damage of the pixels is another thing
    try:
        return ImageOps.exif_transpose(picture)
    except (SyntaxError, ValueError, struct.error):  # as some programs leave them
        return picture


def paper_of(picture: Image.Image) -> tuple[int, int, int]:
    """Return the colour of what is transparent in an RGBA picture: that of the paper.

    A large opaque part of several greys is a page, most of which is paper. Else the ink stands
    alone, and light ink is on black.
    """
    grey, seen = np.asarray(picture.convert("L")), np.asarray(picture.getchannel("A")) > 127
    paper, opaque = 255, grey[seen]
    if opaque.size:
        if 3 * opaque.size > grey.size and int(opaque.max()) - int(opaque.min()) > 64:
            paper = int(np.median(opaque))
        elif np.percentile(opaque, 5) > 127:
            paper = 0
    return paper, paper, paper


def eight_bits(path: Path, picture: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits a pixel, as scanners write it, with 8; Pillow clips it.

    Of the 16 only 8, 10 or 12 may be in use.

    Raises:
        DataError: when it has even more bits, whose range no one knows.
    """
    if picture.mode.startswith("I;16"):
        pixels = np.asarray(picture).astype(np.uint32)
        white = next((2**bits - 1 for bits in (8, 10, 12) if pixels.max() < 2**bits), 2**16 - 1)
        return Image.fromarray((pixels * 255 // white).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(f"{for_people(path)} has 32 bits a pixel; save it with 8 or 16.")
    return picture


def longer_side(path: Path) -> int:
    """Return the larger of a picture's width and height, in pixels.

    Raises:
        DataError: when there is no such file, or it is no picture.
    """
    with opened(path) as picture:
        return max(picture.size)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture of a size that fits into memory.

    Raises:
        DataError: when there is no such file, or it is no picture, or does not decode in the block.
    """
    if not path.is_file():
        wrong = "is a link to nothing" if path.is_symlink() else "is no file"
        wrong = "is a folder" if path.is_dir() else wrong
        raise DataError(f"{for_people(path)} {wrong}; give the path of a picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is ours
            unread = Image.open(path, formats=FORMATS)
        with unread as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{for_people(path)} has {width}x{height} pixels; scale it down.")
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            if pages > 1:  # as of a scanner's feeder
                raise DataError(
                    f"{for_people(path)} has {pages} pages; save each as a file of its own."
                )
            yield picture
    except DataError:
        raise
    except Exception as error:  # what is damaged may fail in any way
        raise DataError(
            f"{for_people(path)} cannot be read as a picture ({error}); give a PNG, JPEG, BMP, "
            "WebP or TIFF that is whole."
        ) from None
