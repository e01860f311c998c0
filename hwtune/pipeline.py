"""Search, then retrain, then report: the one place where the three are joined."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from hwtune import cluster
from hwtune.cluster import Slots, plan_slots
from hwtune.data import get_data, is_at_hand, load_data
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import DataError, StudyError
from hwtune.evaluation.retrain import candidate, retrain
from hwtune.hardware import git_commit, hardware, versions
from hwtune.records import FORMAT, StudyFolder, TrialRecord, create_study, now, ranked
from hwtune.report.report import write_report
from hwtune.search.budget import Budget, Clock
from hwtune.search.feasible import survey
from hwtune.search.pace import GRACE_PERIOD, REDUCTION_FACTOR
from hwtune.search.study import STARTUP_TRIALS, longest, run_search
from hwtune.space import SearchSpace, load_space, space_from_json

FAILED, INTERRUPTED = 1, 130  # exit codes
ASHA = {"grace_period": GRACE_PERIOD, "reduction_factor": REDUCTION_FACTOR}


def choose_data(wanted: str, space: SearchSpace, console: Console) -> Dataset:
    """Return the data set of a study: `wanted`, or for "auto" the space's own or a stand-in.

    Raises:
        DataError: when a data set asked for by name is not at hand.
    """
    if wanted != "auto":
        return load_data(wanted)
    if not is_at_hand(space.data):
        try:
            console.print(f"{space.data} is not in the data folder; trying to download it.")
            get_data(space.data)
        except DataError as error:
            if space.data != "chinese_mnist":
                raise
            console.print(f"{error}", style="yellow")
            banner = "NOT REAL HANDWRITING: using chinese_strokes, characters drawn by hwtune"
            console.rule(f"[bold red]{banner}")
            console.print("For the real data: python -m hwtune data add chinese_mnist PATH_TO_ZIP")
            return load_data("chinese_strokes")
    return load_data(space.data)


def search(
    space_name: str,
    *,
    data: str,
    split: SplitSpec,
    budget: Budget,
    parallel: int | None,
    seed: int,
    scheduler: Literal["asha", "none"],
    name: str | None,
    results: Path,
    top: int,
    seeds: int,
    baselines: bool,
    command: Sequence[str],
    console: Console,
) -> tuple[StudyFolder, int]:
    """Run the whole command; return the study and the exit code.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
    """
    began = time.monotonic()
    space, file = load_space(space_name)
    if budget.epochs is not None:
        space = space.with_epochs(budget.epochs)
    budget = budget.filled()
    dataset = choose_data(data, space, console)
    parts = search_split(dataset, split)
    counts = split_indices(dataset, split).counts()
    costs = survey(space, classes=len(dataset.classes), side=dataset.side)
    slots = plan_slots(parallel)
    growth = (counts["train"] + counts["validation"]) / counts["train"]
    clock = Clock(budget.seconds, slots.parallel, top, seeds, baselines, growth, began)

    stand_in = "" if data != "auto" or dataset.name == space.data else f"-{dataset.name}"
    folder = create_study(results, name, space.name + stand_in)
    about: dict[str, Any] = {
        "format": FORMAT,
        "study": folder.name,
        "space": space.to_json(),
        "data": dataset.describe(),
        "split": {**split.to_dict(), "counts": counts},
        "budget": {"trials": budget.trials, "epochs": longest(space), "seconds": budget.seconds},
        "sampler": {"name": "tpe", "startup_trials": STARTUP_TRIALS},
        "scheduler": {"name": scheduler, **(ASHA if scheduler == "asha" else {})},
        "seed": seed,
        "command": shlex.join(command),
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": {**hardware(), "parallel": slots.parallel},
    }
    with folder.locked():
        folder.write_space(file.read_text(encoding="utf-8"))
        with reported(folder), recorded(folder, about, clock), cluster.started(slots) as address:
            introduce(folder, about, address, console)
            outcome = run_search(
                space, parts, folder,
                classes=len(dataset.classes), costs=costs, budget=budget,
                clock=clock, slots=slots, seed=seed, scheduler=scheduler, console=console,
            )  # fmt: skip
            about["search_seconds"] = round(clock.elapsed, 1)
            if outcome.interrupted:
                about["status"] = "interrupted"
                return folder, INTERRUPTED
            if outcome.best is None:
                about["status"] = "failed"
                return folder, FAILED
            _retrain(
                folder, space, dataset, split, slots,
                top=top, seeds=seeds, baselines=baselines, command=about["command"],
                console=console,
            )  # fmt: skip
    return folder, 0


@contextmanager
def reported(folder: StudyFolder) -> Iterator[None]:
    """Write the report of what there is, however the block ends."""
    try:
        yield
    finally:
        write_report(folder)


@contextmanager
def recorded(folder: StudyFolder, about: dict[str, Any], clock: Clock) -> Iterator[None]:
    """Keep `study.json` true: running inside the block, then how it ended and after how long.

    The block may set another status than "complete" itself.
    """
    about |= {"started": now(), "seconds": None, "status": "running"}
    folder.write_study(about)
    about["status"] = "complete"
    try:
        yield
    except KeyboardInterrupt:
        about["status"] = "interrupted"
        raise
    except BaseException:
        about["status"] = "failed"
        raise
    finally:
        folder.write_study({**about, "seconds": round(clock.elapsed, 1)})


def introduce(folder: StudyFolder, about: dict[str, Any], dashboard: str, console: Console) -> None:
    """Say what begins, and where it can be watched."""
    counts = about["split"]["counts"]
    console.print(
        f"Study {folder.name}: {about['data']['name']}, {counts['train']:,} images to train on, "
        f"{counts['validation']:,} to validate, {counts['test']:,} sealed for the test "
        f"(split {about['split']['kind']}); {about['hardware']['parallel']} trials at once."
    )
    console.print(f"TensorBoard: tensorboard --logdir {folder.tensorboard}")
    if dashboard:
        console.print(f"Ray dashboard: {dashboard} (token: ray get-auth-token)")


def retrain_study(
    folder: StudyFolder,
    *,
    top: int,
    seeds: int,
    baselines: bool,
    parallel: int | None,
    command: Sequence[str],
    console: Console,
) -> None:
    """Retrain and test the best of a study that was searched before.

    Raises:
        StudyError: when the study has no trial to retrain.
        DataError: when the data set is not the one that was searched.
    """
    about = folder.read_study()
    space = space_from_json(about["space"])
    dataset = load_data(about["data"]["name"])
    if dataset.sha256 != about["data"]["sha256"]:
        raise DataError(
            f"{dataset.name} is not the data that study {folder.name!r} searched (another sha256); "
            "put the original into the data folder."
        )
    split = SplitSpec(**{k: v for k, v in about["split"].items() if k != "counts"})
    slots = plan_slots(parallel)
    with folder.locked():
        if not ranked(folder.read_trials()):
            raise StudyError(f"Study {folder.name!r} has no trained trial; search it first.")
        with reported(folder), cluster.started(slots):
            _retrain(
                folder, space, dataset, split, slots,
                top=top, seeds=seeds, baselines=baselines, command=shlex.join(command),
                console=console,
            )  # fmt: skip


def _retrain(
    folder: StudyFolder,
    space: SearchSpace,
    dataset: Dataset,
    split: SplitSpec,
    slots: Slots,
    *,
    top: int,
    seeds: int,
    baselines: bool,
    command: str,
    console: Console,
) -> None:
    """Retrain the best `top` trials, and the baselines if asked, and say how they did."""
    trials = folder.read_trials()
    chosen: list[TrialRecord] = ranked(trials)[:top]
    if baselines:
        chosen += [t for t in ranked(trials) if t.baseline and t not in chosen]
    candidates = [candidate(t, space.config(space.parse(t.config))) for t in chosen]
    winner = chosen[0]
    console.print(
        f"Winner on validation: {candidates[0].name} with {winner.val_accuracy:.2%} after "
        f"{winner.best_epoch} epochs, {winner.parameters:,} parameters. Retraining with {seeds} "
        "seeds, then testing once."
    )
    entries = retrain(
        candidates, dataset, split, folder,
        seeds=list(range(seeds)), slots=slots, command=command,
        tell=console.print,
    )  # fmt: skip
    for entry in entries:
        accuracy = entry["test_accuracy"]
        spread = f", spread {accuracy['spread']:.2%}" if accuracy["spread"] is not None else ""
        console.print(
            f"Test: {entry['name']} {accuracy['mean']:.2%} (95 % interval {accuracy['low']:.2%} "
            f"to {accuracy['high']:.2%} on {entry['test_images']:,} images; by seed "
            f"{', '.join(f'{value:.2%}' for value in accuracy['per_seed'])}{spread})"
        )
