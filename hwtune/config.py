"""The trial config: every hyperparameter that a search space may name, with its default."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints

from hwtune.errors import MisfitError, SpaceError
from hwtune.words import meant, unknown

Hyperparameters = dict[str, Any]  # name -> bool, int, float or str: what JSON and Optuna can hold


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One configuration: data preparation, architecture, optimisation.

    Values "per stage" are either one value for all stages or one a stage, joined by "-",
    such as "max-none". `models/` documents what an architecture does with its own.

    Raises:
        SpaceError: when a value has the wrong type or is not one of its choices.
    """

    # Preparation of the images, carried by a saved model.
    side: int = 0  # pixels; 0 keeps the data set's own
    # [0, 1], its square root (faint strokes come out), [-1, 1] or 0..255
    pixel_scale: Literal["unit", "root", "symmetric", "raw"] = "unit"

    # Augmentation of the training batches; each draws uniformly from +- the value.
    rotation: float = 0.0  # degrees
    translation: float = 0.0  # fraction of the side
    scaling: float = 0.0  # fraction: 0.1 draws from 0.9..1.1
    gamma: float = 0.0  # logarithm of the power to which the pixels are raised

    # Architecture. `filters` and `strides` are dash-joined lists, the rest as in cnn_layers.
    model: Literal["cnn", "resnet"] = "cnn"
    filters: str = "32-64"
    convs_per_stage: int = 1
    kernel: str = "3"  # per stage, pixels
    stem_stride: int = 1
    padding: Literal["same", "none"] = "same"
    conv_bias: bool = True
    activation: Literal["relu", "none"] = "relu"
    norm: Literal["none", "before", "after"] = "none"
    pool: str = "max"  # per stage: max, avg or none
    spatial_dropout: str = "0"  # per stage
    head: Literal["flatten", "avg", "max"] = "flatten"
    hidden: str = "none"  # widths of the hidden layers, dash-joined, or none
    dropout: str = "0"  # one for all hidden layers, or one each
    hidden_norm: bool = False
    output_norm: bool = False
    strides: str = "1-2-2-2"  # of the residual stages (resnet)
    stem_kernel: int = 3  # pixels (resnet)
    init: Literal["torch", "glorot"] = "torch"  # of the weights; glorot also sets biases to 0

    # Optimisation.
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9  # sgd
    eps: float = 1e-8  # adam, adamw
    batch_size: int = 64
    epochs: int = 12
    max_steps: int = 0  # batches after which training ends within its last epoch; 0 is off
    lr_schedule: Literal["constant", "onecycle", "exponential", "plateau"] = "constant"
    lr_decay: float = 0.98  # exponential: the factor of an epoch; plateau: the factor of a drop
    lr_patience: int = 5  # plateau: epochs without a validation loss lower by 0.0001
    softmax: bool = False  # softmax before the loss
    label_smoothing: float = 0.0
    clip_value: float = 0.0  # gradients clipped to +- this; 0 is off
    ema: float = 0.0  # decay of the weight average; 0 is off
    early_stop: int = 0  # epochs without a lower validation loss; 0 is off

    def __post_init__(self) -> None:
        for name, hint in HINTS.items():
            check_value(name, getattr(self, name), hint)

    @property
    def needs_validation(self) -> bool:
        """Return whether training watches the validation loss."""
        return self.early_stop > 0 or self.lr_schedule == "plateau"

    def longest(self, images: int) -> int:
        """Return after how many epochs of `images` training images training ends at the latest."""
        if not self.max_steps:
            return self.epochs
        steps = max(1, images // self.batch_size)  # of an epoch
        return min(self.epochs, math.ceil(self.max_steps / steps))

    def images_seen(self, epochs: int, *, images: int) -> int:
        """Return on how many images `epochs` epochs of `images` training images train.

        The last may be a part of one.
        """
        if not self.max_steps:
            return epochs * images
        steps = max(1, images // self.batch_size)  # of an epoch
        return round(images * min(epochs * steps, self.max_steps) / steps)

    def retrain_epochs(self, best: int) -> int:
        """Return how long to retrain what was best on validation after `best` of its epochs.

        A rate that falls towards a planned end is worth most at that end, wherever chance put the
        peak, and what watches validation ends by itself: both keep their full length.
        """
        whole = self.lr_schedule == "onecycle" or self.needs_validation
        return self.epochs if whole else best

    def to_dict(self) -> Hyperparameters:
        """Return the values as plain JSON data."""
        return asdict(self)


HINTS = get_type_hints(TrialConfig)
LOWEST = {
    **dict.fromkeys(("epochs", "stem_stride", "convs_per_stage", "stem_kernel", "lr_patience"), 1),
    "batch_size": 2,
}
HIGHEST = {  # these stay below
    **dict.fromkeys(
        ("momentum", "ema", "label_smoothing", "translation", "scaling", "lr_decay"), 1.0
    ),
    "convs_per_stage": 1000,
}


def check_value(name: str, value: object, hint: Any) -> None:
    """Check one hyperparameter against its type, its choices and its range.

    Raises:
        SpaceError: names the hyperparameter, the value and what is allowed.
    """
    if choices := get_args(hint):
        if value not in choices:
            known = [str(each) for each in choices]
            raise SpaceError(
                f"{name}={value!r} is not one of {', '.join(known)}{meant(str(value), known)}."
            )
        return
    allowed = (int, float) if hint is float else hint
    if not isinstance(value, allowed) or (hint is not bool and isinstance(value, bool)):
        text = f': write "{as_text(value)}"' if hint is str else ""
        raise SpaceError(f"{name}={value!r} must be of type {hint.__name__}{text}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = LOWEST.get(name, 0), HIGHEST.get(name, float("inf"))
        if not (math.isfinite(value) and low <= value < high):
            raise SpaceError(f"{name}={value!r} must be at least {low} and below {high}.")


def as_text(value: object) -> str:
    """Return how a hyperparameter that takes texts writes a value: "none", or joined by dashes."""
    if isinstance(value, (tuple, list)):
        return "-".join(map(str, value))
    return "none" if value is None else str(value)


def trial_config(values: Hyperparameters) -> TrialConfig:
    """Return the trial config with these values, defaults elsewhere.

    Raises:
        SpaceError: on a name that is no hyperparameter, or a bad value.
    """
    for name in values:
        if name not in HINTS:
            raise SpaceError(f"{unknown('hyperparameter', name, HINTS)}.")
    return TrialConfig(**values)


def numbers(text: str, *, name: str, kind: type = int) -> list[Any]:
    """Return the numbers of a dash-joined list such as "16-32"; "none" is the empty list.

    Whole numbers are at least 1, others, which are dropout rates, in [0, 1).

    Raises:
        SpaceError: when a part is no such number.
    """
    if text == "none":
        return []
    try:
        values = [kind(part) for part in text.split("-")]
    except ValueError:
        raise SpaceError(f"{name}={text!r} is not a list such as '16-32'.") from None
    if not all(value > 0 if kind is int else 0 <= value < 1 for value in values):
        want = "of at least 1" if kind is int else "from 0 to below 1"
        raise SpaceError(f"{name}={text!r} must hold numbers {want}.")
    return values


def per_stage(values: list[Any], stages: int, *, name: str) -> list[Any]:
    """Return one value a stage, repeating a single one.

    Raises:
        MisfitError: when there are several, but not one a stage.
    """
    if len(values) == 1:
        return values * stages
    if len(values) != stages:
        fits = "1" if stages == 1 else f"1 or {stages}"
        raise MisfitError(f"{name} has {len(values)} values where {stages} fit; give {fits}.")
    return values
