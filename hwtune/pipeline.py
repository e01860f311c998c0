"""Search, then retrain, then report: the one place where the three are joined."""

from __future__ import annotations

import calendar
import errno
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from hwtune import cluster
from hwtune.cluster import Slots
from hwtune.data import get_data, is_at_hand, load_data
from hwtune.data.images import Dataset
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import (
    FAILED,
    INTERRUPTED,
    ClusterError,
    DataError,
    HwtuneFailure,
    StudyError,
)
from hwtune.evaluation.finalists import check_folds, judge
from hwtune.evaluation.retrain import candidate, retrain
from hwtune.hardware import git_commit, hardware, versions
from hwtune.mirror import Mirror, open_uri
from hwtune.records import (
    FORMAT,
    StudyFolder,
    TrialRecord,
    create_study,
    now,
    pareto_front,
    ranked,
)
from hwtune.report.report import write_report
from hwtune.search.budget import DEFAULT_TRIALS, Budget, Clock, CostModel, Retraining
from hwtune.search.feasible import cost_of, survey
from hwtune.search.forecast import forecast
from hwtune.search.interrupts import Halt
from hwtune.search.probe import probe
from hwtune.search.settings import Settings, settings_of
from hwtune.search.study import longest, run_search
from hwtune.signals import catch_sigterm
from hwtune.space import SearchSpace, load_space, space_from_json

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command trains.

    Attributes:
        parallel: trainings at once, None for as many as fit.
        address: of a running Ray cluster, or None for this machine.
        gpu_share: the part of a GPU a training asks for, None by memory.
    """

    parallel: int | None = None
    address: str | None = None
    gpu_share: float | None = None


@dataclass
class Session:
    """One process's work on one study."""

    folder: StudyFolder
    about: dict[str, Any]
    space: SearchSpace
    dataset: Dataset
    split: SplitSpec
    settings: Settings
    budget: Budget
    retraining: Retraining
    place: Place
    command: str
    began: float
    console: Console

    @property
    def spent(self) -> float:
        """Return the seconds of earlier runs of the study."""
        return float(sum(run["seconds"] or 0.0 for run in self.about["runs"][:-1]))


def search(
    space_name: str,
    *,
    data: str,
    split: SplitSpec,
    budget: Budget,
    settings: Settings,
    retraining: Retraining,
    place: Place,
    mirror: str | None,
    name: str | None,
    results: Path,
    command: Sequence[str],
    console: Console,
) -> tuple[StudyFolder, int]:
    """Run the whole command; return the study and the exit code.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
        HwtuneFailure: when the study's files cannot be written any more.
    """
    began = time.monotonic()
    space, file = load_space(space_name)
    if budget.epochs is not None:
        space = space.with_epochs(budget.epochs)
    budget = budget.filled()
    dataset = choose_data(data, space, console)
    counts = split_indices(dataset, split).counts()
    if retraining.finalists > 1:
        check_folds(dataset, split, retraining.folds)
    stand_in = "" if data != "auto" or dataset.name == space.data else f"-{dataset.name}"
    about: dict[str, Any] = {
        "format": FORMAT,
        "space": space.to_json(),
        "data": dataset.describe(),
        "split": {**split.to_dict(), "counts": counts},
        "budget": {**asdict(budget), "epochs": longest(space)},
        **settings.describe(),
        "retraining": asdict(retraining),
        "mirror": mirror,
        "parallel": place.parallel,
        "command": shlex.join(command),
        "started": now(),
        "seconds": None,
        "status": "running",
        "runs": [],
    }
    survey(space, classes=len(dataset.classes), side=dataset.side)
    if mirror:
        open_uri(mirror)
    source = file.read_text(encoding="utf-8")
    folder = create_study(results, name, space.name + stand_in, about=about, source=source)
    about["study"] = folder.name
    session = Session(
        folder, about, space, dataset, split, settings, budget, retraining,
        place, shlex.join(command), began, console,
    )  # fmt: skip
    with folder.locked():
        try:
            return folder, run_session(session)
        except ClusterError:
            shutil.rmtree(folder.path)
            raise


def resume(
    folder: StudyFolder,
    *,
    trials: int | None,
    time_budget: float | None,
    target: float | None,
    place: Place,
    command: Sequence[str],
    console: Console,
) -> int:
    """Go on with a study that was interrupted, or extend one that ended; return the exit code.

    Args:
        trials: how many the whole study shall have; None: as before.
        time_budget: seconds from now on; None: what is left.
        target: the validation accuracy that is enough; None: as before.
        place: where to train; trainings at once are as many as before, unless it says otherwise.

    Raises:
        HwtuneError: when there is nothing left to do, or the data is another.
        HwtuneFailure: when the study's files cannot be written any more.
    """
    began = time.monotonic()
    with folder.locked():
        about = folder.read_study()
        extended = any(value is not None for value in (trials, time_budget, target))
        done = sum(t.epochs > 0 for t in folder.read_trials())
        if about["status"] == "complete" and not extended:
            raise StudyError(
                f"Study {folder.name!r} is complete; extend it: resume {folder.called} --trials "
                f"{2 * max(done, 1)}, or --time-budget 10m."
            )
        if done and not folder.journal.is_file():
            raise StudyError(
                f"{folder.path} has no {folder.journal.name}, which is not kept with a reference "
                "study, and cannot go on; search anew."
            )
        dataset = same_data(folder, about)
        close_last_run(folder, about)
        old = Budget(**about["budget"])
        spent = sum(run["seconds"] for run in about["runs"])
        budget = extended_budget(
            old, trials=trials, time_budget=time_budget, target=target, done=done, spent=spent
        )
        if extended:
            about.pop("search_seconds", None)
        about |= {"budget": asdict(budget)}
        split = split_of(about)
        place = replace(place, parallel=place.parallel or about.get("parallel"))
        session = Session(
            folder, about, space_from_json(about["space"]), dataset, split, settings_of(about),
            budget, Retraining(**about.get("retraining", {})), place, shlex.join(command), began,
            console,
        )  # fmt: skip
        return run_session(session)


def extended_budget(
    old: Budget,
    *,
    trials: int | None,
    time_budget: float | None,
    target: float | None,
    done: int,
    spent: float,
) -> Budget:
    """Return what the whole study may spend; without a wish the old budget.

    A time or a target alone lifts the old number of trials where that is reached; a number of
    trials alone lifts the old time.
    """
    if trials is time_budget is target is None:
        return old
    seconds = None if time_budget is None else spent + time_budget
    limit = old.trials or DEFAULT_TRIALS
    if trials is None and done >= limit:
        trials = done + DEFAULT_TRIALS
    reached = target is None and done >= limit
    return Budget(
        trials=trials if trials is not None else old.trials,
        epochs=old.epochs,
        seconds=seconds,
        target=None if reached else target if target is not None else old.target,
    )


def same_data(folder: StudyFolder, about: dict[str, Any]) -> Dataset:
    """Return the data set of a study.

    Raises:
        DataError: when the one at hand is another.
    """
    dataset = load_data(about["data"]["name"])
    if dataset.sha256 != about["data"]["sha256"]:
        raise DataError(
            f"{dataset.name} is not the data that study {folder.name!r} searched (another sha256); "
            "put the original into the data folder."
        )
    return dataset


def split_of(about: dict[str, Any]) -> SplitSpec:
    """Return the split that `study.json` holds."""
    return SplitSpec(**{k: v for k, v in about["split"].items() if k != "counts"})


def close_last_run(folder: StudyFolder, about: dict[str, Any]) -> None:
    """Give a run that was killed its time until then; a study of old gets its one run."""
    if "runs" not in about:
        run = {key: about[key] for key in ("command", "started", "seconds", "status")}
        about["runs"] = [run]
    for run in about["runs"]:
        if run["seconds"] is None:
            started = calendar.timegm(time.strptime(run["started"], "%Y-%m-%dT%H:%M:%SZ"))
            run["seconds"] = max(0.0, round(folder.last_progress() - started, 1))
            run["status"] = "killed"


def run_session(session: Session) -> int:
    """Search, retrain, report, with the study's lock held; return the exit code."""
    folder, about, console, place = session.folder, session.about, session.console, session.place
    about |= {"versions": versions(), "git_commit": git_commit()}
    about["hardware"] = {**hardware(), "parallel": place.parallel}
    catch_sigterm()
    try:
        folder.repair()
        with (
            mirrored(folder, about.get("mirror"), console) as changed,
            reported(folder),
            recorded(folder, about, command=session.command, began=session.began),
            cluster.started(place.address) as dashboard,
        ):
            search = None if about.get("search_seconds") is not None else Search(session)
            need = search.need if search else None
            slots = cluster.plan_slots(place.parallel, gpu_share=place.gpu_share, need=need)
            about["hardware"]["parallel"] = slots.total
            introduce(folder, about, dashboard, console)
            if search and not search.run(slots, changed):
                about["runs"][-1]["status"] = "failed"
                return FAILED
            _retrain(
                folder, session.space, session.dataset, session.split, slots,
                session.retraining, command=session.command, console=console,
            )  # fmt: skip
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Halt, OSError) as error:
        if isinstance(error, OSError) and error.errno not in FULL:
            raise
        raise HwtuneFailure(
            f"{folder.path} cannot be written ({error}); nothing recorded is lost. Free space, "
            f"then: python -m hwtune resume {folder.called}"
        ) from None
    return 0


class Search:
    """The search of a session in a running Ray cluster: measured first, then forecast and run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        space, dataset = session.space, session.dataset
        self.parts = search_split(dataset, session.split)
        self.shape = {"classes": len(dataset.classes), "side": dataset.side}
        self.typical, self.cost = survey(space, **self.shape), CostModel()
        self.need = probe(
            space, self.parts, self.cost, classes=len(dataset.classes), tell=session.console.print
        )

    def run(self, slots: Slots, changed: Callable[[], None]) -> bool:
        """Search until the budget is met; return whether there is something to retrain."""
        session, about, folder = self.session, self.session.about, self.session.folder
        counts = about["split"]["counts"]
        clock = Clock(
            session.budget.seconds, slots.total, session.retraining,
            (counts["train"] + counts["validation"]) / counts["train"],
            self.retrain_epochs, session.began - session.spent,
        )  # fmt: skip
        self.forecast(clock)
        ledger = run_search(
            session.space, self.parts, folder, session.settings,
            classes=self.shape["classes"], costs=self.typical, cost=self.cost,
            budget=session.budget, clock=clock, slots=slots, changed=changed,
            console=session.console,
        )  # fmt: skip
        if ledger.best is None:
            return False
        about |= {"search_seconds": round(clock.elapsed, 1), "trials": ledger.trained}
        if len(session.settings.objectives) > 1:
            about["pareto"] = pareto_front(ledger.trials.values(), session.settings.objectives)
        return True

    def retrain_epochs(self, trial: TrialRecord) -> int:
        """Return how long a trial would be retrained."""
        space = self.session.space
        return space.config(space.parse(trial.config)).retrain_epochs(trial.best_epoch)

    def forecast(self, clock: Clock) -> None:
        """Say and record what the command will cost."""
        session, space = self.session, self.session.space
        expected = forecast(
            self.cost,
            session.budget,
            clock,
            baselines=[cost_of(space, each, **self.shape) for each in space.baselines.values()],
            starts=[cost_of(space, each, **self.shape) for each in space.starts.values()],
            typical=self.typical,
            images=len(self.parts.train.labels),
            epochs=longest(space),
            stops=session.settings.scheduler != "none",
            learns=session.settings.sampler != "random",
            done=sum(t.epochs > 0 for t in session.folder.read_trials()),
        )
        session.about["runs"][-1]["forecast"] = expected.describe()
        session.folder.write_study(session.about)
        session.console.print(
            f"Forecast: about {expected.trials} trials, {expected.epochs:,} epochs, "
            f"{minutes(expected.seconds - session.spent)}, retraining and report included."
        )


def minutes(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


@contextmanager
def reported(folder: StudyFolder) -> Iterator[None]:
    """Write the report of what there is, however the block ends."""
    try:
        yield
    except Halt:
        raise  # there is no room for a page either
    except BaseException:
        with suppress(Exception):  # the page must not hide why the block ended
            write_report(folder)
        raise
    write_report(folder)


@contextmanager
def mirrored(
    folder: StudyFolder, uri: str | None, console: Console
) -> Iterator[Callable[[], None]]:
    """Keep a copy of the study at `uri`, if there is one; yields what asks for an upload."""
    if uri is None:
        yield lambda: None
        return
    mirror = Mirror(folder, uri, tell=console.print)
    with mirror.running():
        yield mirror.request


@contextmanager
def recorded(
    folder: StudyFolder, about: dict[str, Any], *, command: str, began: float
) -> Iterator[None]:
    """Keep `study.json` true: a new run inside the block, then how it ended and after how long.

    The block may set the status of the run, the last of `about["runs"]`, to "failed" itself.
    """
    run: dict[str, Any] = {
        "command": command, "started": now(), "seconds": None, "status": "running",
    }  # fmt: skip
    about["runs"].append(run)
    about |= {"status": "running"}
    folder.write_study(about)
    try:
        yield
        if run["status"] == "running":
            run["status"] = "complete"
    except (KeyboardInterrupt, Halt):
        run["status"] = "interrupted"
        raise
    except BaseException:
        run["status"] = "failed"
        raise
    finally:
        run["seconds"] = round(time.monotonic() - began, 1)
        seconds = round(sum(each["seconds"] for each in about["runs"]), 1)
        about |= {"status": run["status"], "seconds": seconds}
        with suppress(OSError):  # on a full disk it still says "running", which a resume mends
            folder.write_study(about)


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
    retraining: Retraining,
    place: Place,
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
    dataset = same_data(folder, about)
    split = split_of(about)
    with folder.locked():
        if not ranked(folder.read_trials()):
            raise StudyError(f"Study {folder.name!r} has no trained trial; search it first.")
        if retraining.finalists > 1:
            check_folds(dataset, split, retraining.folds)
        with reported(folder), cluster.started(place.address):
            slots = cluster.plan_slots(place.parallel, gpu_share=place.gpu_share)
            _retrain(
                folder, space, dataset, split, slots, retraining,
                command=shlex.join(command), console=console,
            )  # fmt: skip


def _retrain(
    folder: StudyFolder,
    space: SearchSpace,
    dataset: Dataset,
    split: SplitSpec,
    slots: Slots,
    retraining: Retraining,
    *,
    command: str,
    console: Console,
) -> None:
    """Choose among the finalists, retrain and test the best, and the baselines if asked."""
    tried = {
        candidate(trial, space.config(space.parse(trial.config))): trial
        for trial in ranked(folder.read_trials())
    }
    order, chosen_by = list(tried), "on validation"
    record = folder.read_retrain()
    if record.pop("finalists", None):
        folder.write_retrain(record)  # of an earlier choice
    if (count := min(retraining.finalists, len(order))) > 1:
        chosen_by = "by cross-validation"
        console.print(f"Judging the {count} best by {retraining.folds}-fold cross-validation.")
        order[:count] = judge(
            order[:count], dataset, split, folder, folds=retraining.folds, slots=slots,
            tell=console.print,
        )  # fmt: skip
    chosen = order[: retraining.top]
    if retraining.baselines:
        chosen += [each for each in order[retraining.top :] if each.baseline]
    winner = tried[chosen[0]]
    console.print(
        f"Winner {chosen_by}: {chosen[0].name}, on validation {winner.val_accuracy:.2%} after "
        f"{winner.best_epoch} epochs, {winner.parameters:,} parameters. Retraining with "
        f"{retraining.seeds} seeds, then testing once."
    )
    entries = retrain(
        chosen, dataset, split, folder,
        seeds=list(range(retraining.seeds)), slots=slots, command=command,
        tell=console.print,
    )  # fmt: skip
    say_tested(entries, console)


def say_tested(entries: Sequence[dict[str, Any]], console: Console) -> None:
    """Say how each configuration did on the test set."""
    for entry in entries:
        accuracy = entry["test_accuracy"]
        spread = f", spread {accuracy['spread']:.2%}" if accuracy["spread"] is not None else ""
        console.print(
            f"Test: {entry['name']} {accuracy['mean']:.2%} (95 % interval {accuracy['low']:.2%} "
            f"to {accuracy['high']:.2%} on {entry['test_images']:,} images; by seed "
            f"{', '.join(f'{value:.2%}' for value in accuracy['per_seed'])}{spread})"
        )
