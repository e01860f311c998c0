"""The whole command: search, retrain the best, report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray

from hwtune.cluster import gpu_types, resources_in_words
from hwtune.commands import tool
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import OptionError
from hwtune.evaluation.finalists import check_folds
from hwtune.mirror.places import open_uri
from hwtune.pipeline.command import Command, Place
from hwtune.pipeline.mirroring import mirrored
from hwtune.pipeline.retrain import retrain_best
from hwtune.pipeline.searching import Search
from hwtune.pipeline.session import (
    Session,
    begun,
    new_session,
    working,
)
from hwtune.pipeline.stand_in import choose_data
from hwtune.pipeline.warm_start import told, with_starts_from
from hwtune.results import find_study
from hwtune.search.budget import Budget, Retraining
from hwtune.search.feasible import SWOLLEN, check_idle, longest, misfits, survey, swollen
from hwtune.search.journal import NO_RUNS, Earlier
from hwtune.search.settings import Settings
from hwtune.slots import Slots
from hwtune.space import SearchSpace
from hwtune.study_folder import StudyFolder
from hwtune.words import for_people


def search(
    space: SearchSpace,
    *,
    source: str,
    data: str,
    split: SplitSpec,
    budget: Budget,
    settings: Settings,
    retraining: Retraining,
    place: Place,
    mirror: str | None,
    name: str | None,
    starts_from: Sequence[str] = (),
    results: Path,
    command: Command,
) -> StudyFolder:
    """Run the whole command and return the study.

    Args:
        source: of the space, for people.
        starts_from: earlier studies whose best trials are tried right after the baselines.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
        HwtuneFailure: when no trial was trained, or the study's files cannot be written any more.
        KeyboardInterrupt: when a signal came; every file is in order then.
    """
    check_idle(space)
    if budget.epochs is not None:
        space = space.with_epochs(budget.epochs)
    dataset = choose_data(data, space, command.console)
    if retraining.finalists > 1:
        check_folds(dataset, split, retraining.folds)
    elsewhere = space.found_elsewhere(dataset.describe(), vars(split))
    known = [name for name in elsewhere if name in space.starts]
    space = left_out(space, known, "found by a search on another split of these images", command)
    earlier = [find_study(results, each) for each in starts_from]
    space, origins = with_starts_from(space, earlier, dataset, split)
    if origins:
        command.console.print(told(origins))
    shape = {"classes": len(dataset.classes), "side": dataset.side}
    epochs = longest(space, images=len(split_indices(dataset, split).train))
    if budget.epochs is not None and epochs < budget.epochs:
        raise OptionError(
            f"--epochs {budget.epochs}: {space.name} ends each training with its max_steps, in "
            f"epoch {epochs}; leave the option out, or raise max_steps in the space."
        )
    settings.check_length(epochs=epochs)
    if settings.advice:
        command.console.print(settings.advice)
    steps = space.config(space.corner(largest=True)).max_steps
    searched = {"epochs", "max_steps"} & space.search.keys()
    if dataset.name != space.data:
        small = f"images of {dataset.side}x{dataset.side} pixels are too small"
        space = left_out(space, misfits(space, **shape), small, command)
        large = (
            f"over {SWOLLEN * space.max_parameters:,} parameters with {shape['classes']:,} classes"
        )
        space = left_out(space, swollen(space, **shape), large, command)
    survey(space, **shape)
    if mirror is not None:
        open_uri(mirror)
    session = new_session(
        results, name, space.name, space=space, source=source, dataset=dataset,
        split=split, place=place, command=command,
        asked={
            "budget": replace(budget.filled(), epochs=epochs).describe(),
            **settings.describe(),
            "retraining": retraining.describe(),
            "mirror": mirror,
            "started_from": origins,
            # What ends by its steps, or whose length is searched, is never made shorter.
            "may_shorten": not (budget.epochs or steps or searched),
        },
    )  # fmt: skip
    with begun(session.folder):
        run(session)
    return session.folder


def left_out(space: SearchSpace, names: Sequence[str], why: str, command: Command) -> SearchSpace:
    """Return a space without some of its points, having said why."""
    if not names:
        return space
    command.console.print(f"Left out: {', '.join(names)} ({why}).")
    return space.without(names)


def run(session: Session, earlier: Earlier = NO_RUNS) -> None:
    """Search, retrain and report what the study asks for and is not done, with the lock held."""
    about = session.about
    retraining = Retraining(**about["retraining"])
    introduce(session)
    with mirrored(session) as changed, working(session) as dashboard:
        changed()
        data = ray.put(search_split(session.dataset, session.split))  # one copy for all processes
        to_search = about.get("search_seconds") is None
        searching = Search(session, data, retraining, earlier) if to_search else None
        if searching and (need := searching.need):
            about["gpu_need"] = {"bytes": need.bytes, "memory": need.memory, "gpus": gpu_types()}
        slots = session.slots()
        if searching and slots.plain and "seconds_per_image" in about["objectives"]:
            slots = replace(slots, plain=0, plain_nodes=())
            session.say("Trials run on the GPUs alone, since their seconds are compared.")
        about["hardware"]["parallel"] = slots.total
        say_where(session, slots, dashboard)
        if searching:
            searching.run(slots, changed)
        retrain_best(session, data, retraining, changed=changed)


def introduce(session: Session) -> None:
    """Say what begins, before Ray takes its seconds to start."""
    about, counts = session.about, session.about["split"]["counts"]
    session.say(
        f"Study {session.folder.name}: {about['data']['name']}, {counts['train']:,} images to "
        f"train on, {counts['validation']:,} to validate, {counts['test']:,} sealed for the test "
        f"(split {about['split']['kind']})."
    )


def say_where(session: Session, slots: Slots, dashboard: str) -> None:
    """Say how many trials run at once, and where they can be watched."""
    short = ", for want of memory" if slots.short_of_memory else ""
    session.say(f"Ray: {resources_in_words()}, {slots.total} trials at once{short}.")
    board = shlex.quote(for_people(session.folder.tensorboard))
    session.say(f"TensorBoard: {tool('tensorboard')} --logdir {board}")
    if dashboard:
        token = f"{tool('ray')} get-auth-token"
        session.say(f"Ray dashboard: {dashboard} (it asks for a token: {token})")
