"""The data set of a new study, or what stands in for it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hwtune.data import get_data, is_at_hand, load_data
from hwtune.data.images import Dataset
from hwtune.errors import DataError, HwtuneFailure
from hwtune.space import SearchSpace


def choose_data(wanted: str, space: SearchSpace, console: Console) -> Dataset:
    """Return the data set of a study: `wanted`, or for "auto" the space's own or a stand-in.

    Raises:
        DataError: when a data set asked for by name is not at hand.
        HwtuneFailure: when it is not Chinese MNIST, and cannot be downloaded.
    """
    if wanted != "auto":
        return load_data(wanted)
    if not is_at_hand(space.data):
        try:
            console.print(f"{space.data} is not in the data folder; trying to download it.")
            get_data(space.data)
        except (DataError, HwtuneFailure) as error:
            if space.data != "chinese_mnist":
                raise
            console.print(f"{error}", style="yellow")
            banner = "NOT REAL HANDWRITING: using chinese_strokes, characters drawn by hwtune"
            console.rule(Text(banner, "bold red"))
            return load_data("chinese_strokes")
    return load_data(space.data)
