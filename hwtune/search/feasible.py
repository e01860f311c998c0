"""What the points of a space cost, how long they train, whether any of them can be trained."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import optuna

from hwtune.config import Hyperparameters
from hwtune.distributions import bounds
from hwtune.errors import MisfitError, NoPixelError, SpaceError
from hwtune.models import idle, measure_cost
from hwtune.models.layers import Cost
from hwtune.space import SearchSpace

SAMPLES = 64
FEW_CLASSES = 10
SWOLLEN = 10  # times max_parameters; a published system has 5 on the data that it was made for


def cost_of(space: SearchSpace, values: Hyperparameters, *, classes: int, side: int) -> Cost:
    """Return the cost of a point of `space` on images of `side` pixels.

    Raises:
        MisfitError: when the values make no network together.
        SpaceError: when it cannot be built for another reason.
    """
    config = space.config(values)
    return measure_cost(config, classes=classes, side=side)


def too_large(space: SearchSpace, cost: Cost) -> str:
    """Return why the space does not train a network of this cost, or ""."""
    if cost.parameters > space.max_parameters:
        return f"{cost.parameters:,} parameters, at most {space.max_parameters:,}"
    if cost.macs > space.max_macs:
        return f"{cost.macs:,} multiply-accumulates an image, at most {space.max_macs:,}"
    return ""


def misfits(space: SearchSpace, *, classes: int, side: int) -> list[str]:
    """Return the baselines and starts for which images of `side` pixels are too small, by name."""
    names = []
    for name, values in space.points.items():
        try:
            cost_of(space, values, classes=classes, side=side)
        except NoPixelError:
            names.append(name)
    return names


def swollen(space: SearchSpace, *, classes: int, side: int) -> list[str]:
    """Return the baselines of which many classes make giants, far over what the space trains."""
    most = SWOLLEN * space.max_parameters

    def giant(values: Hyperparameters, classes: int) -> bool:
        return cost_of(space, values, classes=classes, side=side).parameters > most

    few = min(classes, FEW_CLASSES)
    return [
        name
        for name, values in space.baselines.items()
        if giant(values, classes) and not giant(values, few)
    ]


def survey(space: SearchSpace, *, classes: int, side: int) -> list[Cost]:
    """Return the costs of both corners of a space and of random points, where they can be trained.

    Baselines and starts are built too.

    Raises:
        SpaceError: when a baseline cannot be built, or none of the points can be trained.
    """
    for name, values in space.points.items():
        try:
            cost_of(space, values, classes=classes, side=side)
        except SpaceError as error:
            kind = "Baseline" if name in space.baselines else "Start"
            raise SpaceError(f"{kind} {name!r} of {space.name}: {error}") from None
    points = [space.corner(largest=False), space.corner(largest=True), *random_points(space)]
    costs, why = [], ""
    for values in points:
        try:
            cost = cost_of(space, values, classes=classes, side=side)
            reason = too_large(space, cost)
        except MisfitError as error:
            reason = str(error)
        if reason:
            why = reason
        else:
            costs.append(cost)
    if not costs:
        raise SpaceError(
            f"Space {space.name!r} has no point that can be trained: {why}; change what it "
            "searches, or its limits."
        )
    return costs


def check_idle(space: SearchSpace) -> None:
    """Check that each hyperparameter that a space searches changes something in it.

    Else many trials would train the same network, and their chance would look like its effect.

    Raises:
        SpaceError: when one does not.
    """
    configs = [space.config(values) for values in (*random_points(space), *space.points.values())]
    for name in space.search:
        why = {idle(name, config) for config in configs}
        if "" not in why:
            raise SpaceError(
                f"search[{name!r}] changes nothing: {min(why)}; take it out of the space."
            )


def random_points(space: SearchSpace) -> list[Hyperparameters]:
    """Return the same random points of a space each time."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask(dict(space.search)).params for _ in range(SAMPLES)]


def images_an_epoch(space: SearchSpace, *, images: int) -> int:
    """Return how many of so many training images an epoch of a trial has, on average.

    Those of a training that ends within an epoch are fewer.
    """
    corners = (space.config(space.corner(largest=each)) for each in (False, True))
    lengths = [(config, config.longest(images)) for config in corners]
    return round(
        fmean(config.images_seen(epochs, images=images) / epochs for config, epochs in lengths)
    )


def longest(space: SearchSpace, *, images: int) -> int:
    """Return the most epochs that a trial of the space may have with so many training images."""
    config = space.config(space.corner(largest=True))
    epochs = config.epochs
    if "epochs" in space.search:
        epochs = max(bounds(space.search["epochs"]))
    if {"max_steps", "batch_size"} & space.search.keys():
        return epochs
    return replace(config, epochs=epochs).longest(images)
