"""The whole command: search, retrain the best, report; anew, resumed or extended."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from hwtune import cluster
from hwtune.board import add_distorted, examples
from hwtune.cluster import Slots
from hwtune.config import Hyperparameters
from hwtune.data.images import Dataset
from hwtune.data.splits import SearchSplit, SplitSpec, search_split, split_indices
from hwtune.errors import HwtuneFailure, SpaceError, StudyError
from hwtune.evaluation.finalists import check_folds
from hwtune.files import for_people
from hwtune.mirror import open_uri
from hwtune.models.layers import Cost
from hwtune.pipeline.retrain import retrain_best
from hwtune.pipeline.session import (
    Command,
    Place,
    begun,
    close_last_run,
    mirrored,
    new_study,
    same_data,
    split_of,
    working,
)
from hwtune.pipeline.stand_in import choose_data
from hwtune.records import TrialRecord, pareto_front, ranked
from hwtune.search.budget import DEFAULT_TRIALS, Budget, Clock, CostModel, Retraining
from hwtune.search.feasible import cost_of, survey
from hwtune.search.forecast import Outlook
from hwtune.search.probe import probe
from hwtune.search.settings import Settings, settings_of
from hwtune.search.study import begun_trials, known_points, longest, run_search
from hwtune.space import SearchSpace, space_from_json
from hwtune.study_folder import StudyFolder


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
    results: Path,
    command: Command,
) -> StudyFolder:
    """Run the whole command and return the study.

    Args:
        source: of the space, for people.

    Raises:
        HwtuneError: when something the user gave is wrong; nothing is left behind then.
        HwtuneFailure: when no trial was trained, or the study's files cannot be written any more.
        KeyboardInterrupt: when a signal came; every file is in order then.
    """
    if budget.epochs is not None:
        space = space.with_epochs(budget.epochs)
    dataset = choose_data(data, space, command.console)
    if retraining.finalists > 1:
        check_folds(dataset, split, retraining.folds)
    epochs = longest(space, images=len(split_indices(dataset, split).train))
    if budget.epochs is not None and epochs < budget.epochs:
        raise SpaceError(
            f"--epochs {budget.epochs}: {space.name} ends each training with its max_steps, in "
            f"epoch {epochs}; leave the option out, or raise max_steps in the space."
        )
    steps = space.config(space.corner(largest=True)).max_steps
    searched = {"epochs", "max_steps"} & space.search.keys()
    survey(space, classes=len(dataset.classes), side=dataset.side)
    if mirror:
        open_uri(mirror)
    stand_in = "" if data != "auto" or dataset.name == space.data else f"-{dataset.name}"
    folder, about = new_study(
        results, name, space.name + stand_in, space=space, source=source, dataset=dataset,
        split=split, command=command,
        asked={
            "budget": {**asdict(budget.filled()), "epochs": epochs},
            **settings.describe(),
            "retraining": asdict(retraining),
            "mirror": mirror,
            "parallel": place.parallel,
            "gpus_per_trial": place.gpu_share,
            # What ends by its steps, or whose length is searched, is never made shorter.
            "may_shorten": not (budget.epochs or steps or searched),
        },
    )  # fmt: skip
    with begun(folder):
        run(folder, about, dataset, place=place, command=command)
    return folder


def resume(
    folder: StudyFolder,
    *,
    trials: int | None,
    time_budget: float | None,
    target: float | None,
    place: Place,
    command: Command,
) -> None:
    """Go on with a study that was interrupted, or extend one that ended.

    Args:
        trials: how many the whole study shall have; None: as before.
        time_budget: seconds from now on; None: what is left.
        target: the validation accuracy that is enough; None: as before.
        place: where to train; as many trainings at once, and on a GPU, as before unless it says
            otherwise.

    Raises:
        HwtuneError: when there is nothing left to do, or the data is another.
        HwtuneFailure: as `search` does; KeyboardInterrupt, too.
    """
    with folder.locked():
        about = folder.read_study()
        extended = any(value is not None for value in (trials, time_budget, target))
        done = begun_trials(folder)
        best = max((trial.val_accuracy for trial in ranked(folder.read_trials())), default=0.0)
        if about["status"] == "complete" and not extended:
            raise StudyError(
                f"Study {folder.name!r} is complete; extend it: resume {folder.called} --trials "
                f"{2 * max(done, 1)}, or --time-budget 10m."
            )
        if about["status"] == "complete":
            check_extension(trials, target, done=done, best=best)
        if done and not folder.journal.is_file():
            raise StudyError(
                f"{folder.path} has no {folder.journal.name}, which is not kept with a reference "
                "study, and cannot go on; search anew."
            )
        dataset = same_data(folder, about)
        close_last_run(folder, about)
        budget = extended_budget(
            Budget(**about["budget"]), trials=trials, time_budget=time_budget, target=target,
            done=done, spent=sum(run["seconds"] for run in about["runs"]),
            best=best,
        )  # fmt: skip
        if extended:
            about.pop("search_seconds", None)
            about.pop("left_out", None)  # and what there is no time for is asked anew
        about |= {"budget": asdict(budget)}
        place = replace(
            place,
            parallel=place.parallel or about.get("parallel"),
            gpu_share=place.gpu_share or about.get("gpus_per_trial"),
        )
        run(folder, about, dataset, place=place, command=command, done=done)


def check_extension(trials: int | None, target: float | None, *, done: int, best: float) -> None:
    """Check that a study that ended has something left to search; see `extended_budget`.

    Raises:
        StudyError: when it has not.
    """
    if trials is not None and trials <= done:
        raise StudyError(
            f"--trials {trials} leaves nothing to search: {done} were begun; give more than that."
        )
    if target is not None and target <= best:
        raise StudyError(
            f"--target {target} leaves nothing to search: {best:.4f} is reached; give a higher one."
        )


def extended_budget(
    old: Budget,
    *,
    trials: int | None,
    time_budget: float | None,
    target: float | None,
    done: int,
    spent: float,
    best: float,
) -> Budget:
    """Return what the whole study may spend; without a wish the old budget.

    A time alone lifts the old number of trials, and a number of trials alone the old time. A target
    alone lifts those of the two that are reached. An old target that is reached is lifted, too.

    Args:
        done: trials that were begun.
        spent: seconds until now.
        best: the highest validation accuracy until now.
    """
    if old.trials is old.seconds is None:
        old = replace(old, trials=DEFAULT_TRIALS)  # as it was once meant
    if trials is time_budget is target is None:
        return old
    seconds = None if time_budget is None else spent + time_budget
    if trials is time_budget is None and old.seconds and spent < old.seconds:
        seconds = old.seconds
    if trials is time_budget is None and old.trials and done < old.trials:
        trials = old.trials
    if trials is seconds is None:
        trials = done + DEFAULT_TRIALS
    if target is None and old.target is not None and best < old.target:
        target = old.target
    return Budget(
        trials=trials,
        epochs=old.epochs,
        seconds=seconds,
        target=target,
    )


def run(
    folder: StudyFolder,
    about: dict[str, Any],
    dataset: Dataset,
    *,
    place: Place,
    command: Command,
    done: int = 0,
) -> None:
    """Search, retrain and report what `about` asks for and is not done, with the lock held.

    Args:
        done: trials that an earlier run began.
    """
    retraining = Retraining(**about.get("retraining", {}))
    with (
        mirrored(folder, about.get("mirror"), command.console) as changed,
        working(folder, about, place=place, command=command) as dashboard,
    ):
        data = ray.put(search_split(dataset, split_of(about)))  # the one copy of all processes
        searching = about.get("search_seconds") is None
        search = Search(folder, about, data, retraining, command, done) if searching else None
        need = search.need if search else None
        slots = cluster.plan_slots(place.parallel, gpu_share=place.gpu_share, need=need)
        about["hardware"]["parallel"] = slots.total
        introduce(folder, about, dashboard, command)
        if search:
            search.run(slots, changed)
        retrain_best(folder, about, dataset, data, slots, retraining, command)


class Search:
    """The search of a study in a running Ray cluster: measured first, then forecast and run."""

    def __init__(
        self,
        folder: StudyFolder,
        about: dict[str, Any],
        data: ray.ObjectRef,
        retraining: Retraining,
        command: Command,
        done: int,
    ) -> None:
        self.folder, self.about, self.data, self.retraining = folder, about, data, retraining
        self.command, self.done = command, done
        self.space, self.budget = space_from_json(about["space"]), Budget(**about["budget"])
        self.settings = settings_of(about)
        self.split: SearchSplit = ray.get(data)
        self.shape = {"classes": self.split.classes, "side": self.split.side}
        self.typical, self.cost = survey(self.space, **self.shape), CostModel()
        self.need = probe(self.space, data, self.cost, tell=command.console.print)

    def run(self, slots: Slots, changed: Callable[[], None]) -> None:
        """Search until the budget is met.

        Args:
            changed: called after each trial that is over.

        Raises:
            HwtuneFailure: when there is nothing to retrain then.
        """
        about, objectives = self.about, self.settings.objectives
        self.show_distortions()
        clock = self.clock(slots)
        known = known_points(self.folder)
        outlook = self.outlook(clock, known)
        if about.pop("may_shorten", False):
            epochs = outlook.affordable_epochs()
            if epochs < outlook.epochs:
                self.shorten(epochs, instead_of=outlook.epochs)
            outlook = replace(outlook, epochs=epochs)
        self.foresee(outlook, known)
        ledger = run_search(
            self.space, self.data, self.folder, self.settings, costs=self.typical,
            cost=self.cost, budget=self.budget, clock=clock, slots=slots,
            left_out=about["left_out"], changed=changed, console=self.command.console,
        )  # fmt: skip
        if ledger.best is None:
            raise HwtuneFailure(
                f"No trial of {self.folder.name} was trained; see {self.folder.path}/trials.csv."
            )
        about |= {"search_seconds": round(clock.elapsed, 1), "trials": ledger.trained}
        if len(objectives) > 1:
            about["pareto"] = pareto_front(ledger.trials.values(), objectives)

    def show_distortions(self) -> None:
        """Show in TensorBoard the most that the space may do to the training images."""
        largest = self.space.config(self.space.corner(largest=True))
        train = self.split.train
        add_distorted(
            self.folder.tensorboard, "distorted/the most in the space", largest,
            examples(train.images, train.labels),
        )  # fmt: skip

    @property
    def spent(self) -> float:
        """Return the seconds of earlier runs of the study."""
        return float(sum(run["seconds"] or 0.0 for run in self.about["runs"][:-1]))

    def clock(self, slots: Slots) -> Clock:
        """Return the time of the whole study, which began before this command where it resumes."""
        counts = self.about["split"]["counts"]
        return Clock(
            slots.total, slots.parallel, self.retraining,
            (counts["train"] + counts["validation"]) / counts["train"],
            self.retrain_epochs, self.command.began - self.spent,
        )  # fmt: skip

    def retrain_epochs(self, trial: TrialRecord) -> int:
        """Return how long a trial would be retrained."""
        config = self.space.config(self.space.parse(trial.config))
        most = config.longest(self.split.train_images)
        if trial.state == "complete":  # early stopping may have ended it
            most = min(most, trial.epochs)
        return min(most, config.retrain_epochs(trial.best_epoch))

    def outlook(self, clock: Clock, known: Mapping[str, bool]) -> Outlook:
        """Return what can be said of the search before it begins; see `known_points`."""
        begun = {name for name, began in known.items() if began}
        good = self.costs(self.space.starts)
        return Outlook(
            cost=self.cost,
            budget=self.budget,
            clock=clock,
            baselines=without(self.costs(self.space.baselines), begun),
            starts=without(good, begun),
            retrained=len(self.space.baselines) if self.retraining.baselines else 0,
            good=list(good.values()),
            typical=self.typical,
            images=self.split.train_images,
            epochs=longest(self.space, images=self.split.train_images),
            stops=self.settings.scheduler != "none",
            learns=self.settings.sampler != "random",
            done=self.done,
        )

    def shorten(self, epochs: int, *, instead_of: int) -> None:
        """Let every trial have so many epochs, and say so."""
        self.space = self.space.with_epochs(epochs)
        self.budget = replace(self.budget, epochs=epochs)
        self.about |= {"space": self.space.to_json(), "budget": asdict(self.budget)}
        assert self.budget.seconds
        self.command.console.print(
            f"Trials have {counted(epochs, 'epoch')} instead of {instead_of}, so that retraining "
            f"the best leaves half of {in_words(self.budget.seconds)} to the search. A longer "
            f"--time-budget has room for more; --epochs {instead_of} insists."
        )

    def foresee(self, outlook: Outlook, known: Mapping[str, bool]) -> None:
        """Say and record what the command will cost, and which baselines it leaves out."""
        say = self.command.console.print
        if "left_out" not in self.about:
            left_out = outlook.left_out(known)
            self.about["left_out"] = list(left_out)
            if left_out:
                each = ", ".join(f"{name} ({in_words(s)})" for name, s in left_out.items())
                say(
                    f"Left out, for they would take over a third of the search's time: {each}. A "
                    "longer --time-budget has room for them; resume --time-budget trains them, too."
                )
        left_out = self.about["left_out"]
        expected = replace(
            outlook,
            baselines=without(outlook.baselines, left_out),
            retrained=max(0, outlook.retrained - len(left_out)),
        ).forecast()
        self.about["runs"][-1]["forecast"] = expected.describe()
        self.folder.write_study(self.about)
        say(
            f"Forecast: about {counted(expected.trials, 'trial')}, "
            f"{counted(expected.epochs, 'epoch')}, "
            f"{in_words(expected.seconds - self.spent)}, retraining and report included."
        )

    def costs(self, points: Mapping[str, Hyperparameters]) -> dict[str, Cost]:
        """Return the costs of known points."""
        return {name: cost_of(self.space, each, **self.shape) for name, each in points.items()}


def without(costs: Mapping[str, Cost], names: Container[str]) -> dict[str, Cost]:
    """Return the costs of the points of other names."""
    return {name: cost for name, cost in costs.items() if name not in names}


def counted(number: int, thing: str) -> str:
    """Return a number of things for people."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def in_words(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def introduce(folder: StudyFolder, about: dict[str, Any], dashboard: str, command: Command) -> None:
    """Say what begins, and where it can be watched."""
    counts = about["split"]["counts"]
    command.console.print(
        f"Study {folder.name}: {about['data']['name']}, {counts['train']:,} images to train on, "
        f"{counts['validation']:,} to validate, {counts['test']:,} sealed for the test "
        f"(split {about['split']['kind']}); {about['hardware']['parallel']} trials at once."
    )
    command.console.print(f"TensorBoard: tensorboard --logdir {for_people(folder.tensorboard)}")
    if dashboard:
        command.console.print(
            f"Ray dashboard: {dashboard} (it asks for a token: ray get-auth-token)"
        )
