"""What a study optimises: validation accuracy, and what may stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwtune.errors import OptionError
from hwtune.values import DIRECTIONS, scored
from hwtune.words import unknown

ACCURACY = ("val_accuracy",)


def check_objectives(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the objectives, or the one, validation accuracy first.

    Raises:
        OptionError: on an unknown or repeated one, or without validation accuracy.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in DIRECTIONS:
            raise OptionError(f"{unknown('--objective', name, DIRECTIONS)}.")
        if names.count(name) > 1:
            raise OptionError(f"--objective {name!r} is given twice; give each once.")
    if names and ACCURACY[0] not in names:
        raise OptionError(
            f"--objective {names[0]!r} needs val_accuracy beside it: add --objective val_accuracy."
        )
    return ACCURACY + tuple(name for name in names if name != ACCURACY[0])


@dataclass(frozen=True)
class Objectives:
    """The objectives of one study.

    Args:
        names: as `check_objectives` returns them.
    """

    names: tuple[str, ...]

    @property
    def several(self) -> bool:
        """Return whether there is more than one."""
        return len(self.names) > 1

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Return Optuna's words for them."""
        return [DIRECTIONS[name] for name in self.names]

    def values(self, result: Any, *, parameters: int, images: int) -> list[float]:
        """Return the objectives of a training, which has a loss, an accuracy and seconds.

        Args:
            images: on which it trained in these seconds.
        """
        known = {
            "val_accuracy": result["val_accuracy"],
            "val_loss": result["val_loss"],
            "parameters": float(parameters),
            "seconds_per_image": result["seconds"] / images,
        }
        return [known[name] for name in self.names]

    def scores(self, result: Any, *, parameters: int, images: int) -> list[float]:
        """Return the same with the sign that makes larger better."""
        values = self.values(result, parameters=parameters, images=images)
        return list(map(scored, self.names, values))
