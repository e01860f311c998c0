"""The search within a command: the machines measured, the cost foreseen and said, then run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial

import ray

from hwtune.board import add_distorted, examples
from hwtune.cluster import if_ray_is_there
from hwtune.config import Hyperparameters
from hwtune.data.splits import SearchSplit
from hwtune.errors import HwtuneFailure
from hwtune.evaluation.candidates import retrain_epochs
from hwtune.models.layers import Cost
from hwtune.pipeline.session import Session, seconds_of_all
from hwtune.records import TrialRecord, front_in_words, more_trials, pareto_front
from hwtune.search.budget import Budget, Clock, CostModel, Retraining, drifts
from hwtune.search.feasible import cost_of, images_an_epoch, longest, survey
from hwtune.search.forecast import Outlook
from hwtune.search.journal import Earlier
from hwtune.search.ledger import Ledger
from hwtune.search.probe import probe
from hwtune.search.settings import settings_of
from hwtune.slots import Slots
from hwtune.space import size_of
from hwtune.states import STATES_AT_ONCE, start_store
from hwtune.words import counted, duration

TOLERATED = 0.1  # of the time asked for, by which a forecast may exceed it without a word


class Search:
    """The search of a study in a running Ray cluster: measured first, then forecast and run."""

    def __init__(
        self, session: Session, data: ray.ObjectRef, retraining: Retraining, earlier: Earlier
    ) -> None:
        self.session, self.data, self.retraining, self.earlier = session, data, retraining, earlier
        self.folder, self.about, self.say = session.folder, session.about, session.say
        self.space, self.budget = session.space, Budget(**self.about["budget"])
        self.settings = settings_of(self.about)
        self.split: SearchSplit = ray.get(data)
        self.shape = {"classes": self.split.classes, "side": self.split.side}
        # Which takes a moment: beside the probe.
        self.store = start_store(self.folder.checkpoints, at_once=STATES_AT_ONCE)
        self.typical, self.cost = survey(self.space, **self.shape), CostModel()
        self.need = probe(self.space, data, self.cost, tell=self.say)

    def run(self, slots: Slots, changed: Callable[[], None]) -> None:
        """Search until the budget is met.

        Args:
            changed: called after each trial that is over.

        Raises:
            HwtuneFailure: when there is nothing to retrain then.
        """
        from hwtune.search.study import run_search  # and Ray Tune, which mistakes need not wait for

        about, objectives = self.about, self.settings.objectives
        about["runs"][-1] |= {
            "parallel": slots.total, "epochs_before": self.earlier.epochs,
            "probed": self.cost.scale if self.cost.calibrated else None,
        }  # fmt: skip
        earlier = about["runs"][:-1] if self.cost.calibrated else []
        drift = drifts(earlier, scale=self.cost.scale, epochs=self.earlier.epochs)
        self.show_distortions()
        clock = self.clock(slots)
        outlook = self.outlook(clock)
        if about.pop("may_shorten", False):
            epochs = outlook.affordable_epochs()
            if epochs < outlook.epochs:
                self.shorten(epochs, instead_of=outlook.epochs)
            outlook = replace(outlook, epochs=epochs)
        self.foresee(outlook)
        try:
            ledger = run_search(
                self.space, self.data, self.store, self.folder, self.settings, costs=self.typical,
                cost=self.cost, budget=self.budget, clock=clock, slots=slots, drift=drift,
                left_out=about["left_out"], changed=changed, console=self.session.command.console,
            )  # fmt: skip
        finally:
            if_ray_is_there(partial(ray.kill, self.store))  # retraining has its own
        if ledger.best is None:
            raise HwtuneFailure(nothing_trained(self.session, ledger))
        about |= {"search_seconds": round(clock.elapsed, 1), "trials": ledger.trained}
        if len(objectives) > 1:
            images = self.split.train_images
            about["pareto"] = front = pareto_front(
                ledger.trials.values(), objectives,
                lambda trial: self.space.epochs_seen(trial.config, trial.epochs, images=images),
            )  # fmt: skip
            self.say(front_in_words(front, objectives))
        self.session.write()  # that a killed retraining is gone on with, not searched for

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
        return seconds_of_all(self.about["runs"][:-1])

    def clock(self, slots: Slots) -> Clock:
        """Return the time of the whole study, which began before this command where it resumes."""
        counts = self.about["split"]["counts"]
        return Clock(
            parallel=slots.total,
            retrainings=slots.parallel,
            retraining=self.retraining,
            retrain_growth=(counts["train"] + counts["validation"]) / counts["train"],
            retrain_epochs=self.retrain_epochs,
            started=self.session.command.began - self.spent,
        )

    def retrain_epochs(self, trial: TrialRecord) -> int:
        """Return how long a trial would be retrained."""
        config = self.space.config(self.space.parse(trial.config))
        most = config.longest(self.split.train_images)
        if trial.state == "complete":  # early stopping may have ended it
            most = min(most, trial.epochs)
        return min(most, retrain_epochs(trial, config))

    def outlook(self, clock: Clock) -> Outlook:
        """Return what can be said of the search before it begins."""
        begun = {name for name, began in self.earlier.known.items() if began}
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
            images=images_an_epoch(self.space, images=self.split.train_images),
            epochs=longest(self.space, images=self.split.train_images),
            points=size_of(self.space),
            expected=self.settings.expected_epochs,
            learns=self.settings.sampler != "random" and not self.settings.advice,
            done=self.earlier.trials,
            running=self.earlier.running,
            cut_off=self.earlier.cut_off,
        )

    def shorten(self, epochs: int, *, instead_of: int) -> None:
        """Let every trial have so many epochs, and no more brackets than that allows; say so."""
        brackets, fewer = self.settings.most_brackets(epochs=epochs), ""
        if self.settings.brackets > brackets:
            self.settings = replace(self.settings, brackets=brackets)
            self.about["scheduler"] = self.settings.describe()["scheduler"]
            fewer = f" and ASHA {counted(brackets, 'bracket')}"
        self.space = self.space.with_epochs(epochs)
        self.budget = replace(self.budget, epochs=epochs)
        self.about |= {"space": self.space.to_json(), "budget": self.budget.describe()}
        assert self.budget.seconds
        self.say(
            f"Trials have {counted(epochs, 'epoch')} instead of {instead_of}{fewer}, so that "
            f"retraining the best leaves half of {duration(self.budget.seconds)} to the search. A "
            f"longer --time-budget has room for more; --epochs {instead_of} insists."
        )

    def foresee(self, outlook: Outlook) -> None:
        """Say and record what the command will cost, and which baselines it leaves out."""
        if "left_out" not in self.about:
            costs = outlook.left_out(self.earlier.known)
            self.about["left_out"] = list(costs)
            if costs:
                each = ", ".join(f"{name} ({duration(s)})" for name, s in costs.items())
                self.say(
                    f"Left out, for they or their retraining would take too much time: {each}. A "
                    "longer --time-budget has room for them; resume --time-budget trains them, too."
                )
        left_out = self.about["left_out"]
        expected = replace(
            outlook,
            baselines=without(outlook.baselines, left_out),
            retrained=max(0, outlook.retrained - len(left_out)),
        ).forecast()
        self.about["runs"][-1]["forecast"] = expected.describe()
        self.session.write()
        asked = self.budget.seconds
        self.say(
            f"Forecast: about {counted(expected.trials, 'trial')}, "
            f"{counted(expected.epochs, 'epoch')}, "
            f"{duration(expected.seconds - self.spent)}, retraining and report included."
        )
        known = len(without(outlook.baselines, left_out)) + len(outlook.starts)
        running = [whole for _, _, whole in outlook.running]
        if all(running) and 0 < expected.trials <= known + len(running):
            self.say(
                f"None of them is searched for: the space's baselines and starts, {known} of them, "
                "come first. Give more --trials, or more time."
            )
        if asked is not None and expected.seconds > asked + TOLERATED * (asked - self.spent):
            self.say(
                "That is more than was asked for: the search is cut short, and fewer --epochs or "
                "--seeds make retraining shorter."
            )

    def costs(self, points: Mapping[str, Hyperparameters]) -> dict[str, Cost]:
        """Return the costs of known points."""
        return {name: cost_of(self.space, each, **self.shape) for name, each in points.items()}


def nothing_trained(session: Session, ledger: Ledger) -> str:
    """Return why a search has nothing to retrain, and what may help."""
    reasons = Counter(t.reason for t in ledger.trials.values() if t.reason)
    why, _ = (reasons.most_common(1) or [("no reason was recorded", 0)])[0]
    if ledger.trained:
        others = session.again("resume", *more_trials(ledger.trials.values()))
        return f"Every trial failed, most often so: {why}. Try others ({others}), or another space."
    longer = session.again("resume", "--time-budget 30m")
    return f"No trial was trained, most often so: {why}. Give more time ({longer}), or a new space."


def without(costs: Mapping[str, Cost], names: Container[str]) -> dict[str, Cost]:
    """Return the costs of the points of other names."""
    return {name: cost for name, cost in costs.items() if name not in names}
