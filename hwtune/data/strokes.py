"""chinese_strokes: the fifteen characters of Chinese MNIST, drawn by simulated writers.

The skeletons below are hand-made. A writer has a slant, a size, a place, a stroke width and a
wobble of their own; each sample varies a little around them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hwtune.data.chinese_mnist import CLASSES, SAMPLES, SIDE, WRITERS
from hwtune.data.images import Dataset, progress

ZOOM = 4  # drawn at four times the size, then averaged, so that edges are smooth
# Strokes are separated by "|"; points are x,y in percent of the square, y downwards.
SKELETONS = {
    "零": "24,8 76,8|12,20 10,36|12,20 88,20 84,34|50,8 50,44|26,28 40,30|26,38 40,40|60,28 74,30|"
    "60,38 74,40|50,46 34,60 10,70|50,46 66,60 90,68|46,62 56,68|30,76 68,74 56,86|44,82 58,96",
    "一": "10,50 50,48 90,49",
    "二": "25,30 75,28|10,75 50,73 90,74",
    "三": "20,20 80,18|27,50 73,48|8,82 50,80 92,81",
    "四": "15,22 18,80|15,22 85,22 80,80|40,24 38,45 28,58|58,24 58,50 62,56 78,56|18,76 81,76",
    "五": "18,18 82,18|48,18 34,84|24,48 74,48 70,84|8,85 92,85",
    "六": "47,8 54,22|10,36 90,36|38,52 26,72 12,88|60,52 74,68 88,86",
    "七": "10,48 88,36|46,10 46,76 54,86 84,84 86,70",
    "八": "36,22 28,56 10,84|58,16 68,52 90,84",
    "九": "12,36 72,34 66,78 74,88 90,84 92,70|40,8 38,46 12,90",
    "十": "10,46 90,46|50,8 50,92",
    "百": "12,14 88,14|50,14 42,32|24,34 24,90|24,34 76,34 76,90|24,60 76,60|24,86 76,86",
    "千": "72,10 50,20 24,24|10,48 90,48|50,20 50,94",
    "万": "12,18 88,18|42,44 76,44 72,80 62,90 54,82|44,18 38,56 14,90",
    "亿": "30,8 22,30 8,50|22,34 22,92|42,20 82,20 62,44 44,70 42,82 50,90 84,88 88,72",
}


def read_strokes(writers: int = WRITERS) -> Dataset:
    """Return 10 samples of each character by each simulated writer; always the same."""
    images, labels, owners = [], [], []
    for writer in progress(range(1, writers + 1), "Drawing chinese_strokes"):
        hand = np.random.default_rng(writer)
        style = _Style(hand)
        for _ in range(SAMPLES):
            for label, character in enumerate(CLASSES):
                images.append(_draw(character, style, hand))
                labels.append(label)
                owners.append(writer)
    return Dataset(
        "chinese_strokes", np.stack(images), np.array(labels), CLASSES, writers=np.array(owners)
    )


class _Style:
    """What one writer's hand has in common over all samples."""

    def __init__(self, hand: np.random.Generator) -> None:
        self.size = hand.uniform(0.3, 0.75, 2)  # fraction of the image, x and y
        self.place = hand.normal(0, 0.04, 2)  # of the centre, fraction of the image
        self.slant = hand.normal(0, 0.15)  # shear: x moves by this much of y
        self.turn = hand.normal(0, 0.06)  # radians
        self.width = hand.uniform(0.8, 2.2)  # pixels
        self.wobble = hand.uniform(0.01, 0.035)  # of the points, fraction of the character


def _draw(character: str, style: _Style, hand: np.random.Generator) -> NDArray[np.uint8]:
    """Return one sample, (64, 64), white on black."""
    canvas = Image.new("L", (SIDE * ZOOM, SIDE * ZOOM))
    pen = ImageDraw.Draw(canvas)
    size = style.size * hand.normal(1, 0.05, 2)
    slant, turn = style.slant + hand.normal(0, 0.04), style.turn + hand.normal(0, 0.04)
    shear = np.array([[1.0, -slant], [0.0, 1.0]])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = 0.5 + style.place + hand.normal(0, 0.02, 2)
    width = max(0.6, style.width * hand.normal(1, 0.08)) * ZOOM
    for stroke in SKELETONS[character].split("|"):
        points = np.array([point.split(",") for point in stroke.split()], float) / 100 - 0.5
        points += hand.normal(0, style.wobble, points.shape)
        curve = _smooth(points)
        placed = (curve @ (rotation @ shear).T) * size + centre
        pixels = [tuple(point) for point in placed * SIDE * ZOOM]
        pen.line(pixels, fill=255, width=round(width), joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = width / 2
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


def _smooth(points: NDArray[np.float64], steps: int = 6) -> NDArray[np.float64]:
    """Return a polyline with its corners cut, (n, 2) -> (m, 2), half way to a Catmull-Rom spline.

    Catmull and Rom, A class of local interpolating splines, 1974.
    """
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        line = b + (c - b) * t
        spline = 0.5 * (
            2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3
        )
        pieces.append((line + spline) / 2)
    return np.vstack([*pieces, points[-1:]])
