"""A study as an object: its records as data frames, its plots, and what can be done with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hwtune.addresses import reach_out
from hwtune.columns import EPOCH_COLUMNS, TRIAL_COLUMNS, column_of
from hwtune.contract import About
from hwtune.errors import OptionError
from hwtune.report.content import Content, answer, read_content
from hwtune.report.words import percent
from hwtune.signals import signals_caught
from hwtune.space import SearchSpace, space_from_json
from hwtune.study_folder import StudyFolder, not_writable
from hwtune.values import FINALISTS, FOLDS, SEEDS, TOP, accuracy_of, positive, seconds_of, wished

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from hwtune.evaluation.classifier import Classifier

SHOWN = 10  # trials of a study that a notebook shows


def called_with(given: Mapping[str, Any], function: Callable[..., Any]) -> str:
    """Return the arguments of a call as its text, those left out that have their defaults."""
    defaults = inspect.signature(function).parameters
    return ", ".join(
        f"{name}={given[name]!r}"
        for name, each in defaults.items()
        if name != "self" and given[name] != each.default
    )


def table_of(content: Content) -> pd.DataFrame:
    """Return a row a trial, with a column a searched hyperparameter."""
    space = content.space
    rows = [
        {
            **{name: getattr(t, name) for name in TRIAL_COLUMNS},
            **{column_of(name): value for name, value in space.parse(t.config).items()},
        }
        for t in content.trials
    ]
    columns = [*TRIAL_COLUMNS, *map(column_of, space.search)]
    return pd.DataFrame(rows, columns=columns).set_index("trial")


@dataclass(frozen=True)
class Study:
    """A study on disk; every look at it reads its files, also while it is searched."""

    folder: StudyFolder

    @property
    def name(self) -> str:
        """Return the study's name."""
        return self.folder.name

    @property
    def about(self) -> About:
        """Return `study.json`: space, data, split, budget, hardware, how it ended."""
        return self.folder.read_study_now()

    @property
    def space(self) -> SearchSpace:
        """Return the space that was searched."""
        return space_from_json(self.about["space"])

    @property
    def answer(self) -> str:
        """Return the outcome in a sentence."""
        return answer(read_content(self.folder))

    @property
    def trials(self) -> pd.DataFrame:
        """Return a row a trial, the best first, with a column a searched hyperparameter."""
        return table_of(read_content(self.folder))

    @property
    def epochs(self) -> pd.DataFrame:
        """Return a row an epoch, as recorded: losses, accuracy in [0, 1], lr, seconds."""
        rows = [vars(each) for each in self.folder.read_epochs()]
        return pd.DataFrame(rows, columns=list(EPOCH_COLUMNS))

    @property
    def tested(self) -> pd.DataFrame:
        """Return a row a tested configuration, the winner first.

        Accuracies lie in [0, 1]; `low` and `high` bound the 95 % interval of `mean`.
        """
        found: Sequence[Mapping[str, Any]] = self.folder.read_retrain()["configurations"]
        columns = ("name", "baseline", "parameters", "seeds", "test_images")
        rows = [{**{key: each[key] for key in columns}, **each["test_accuracy"]} for each in found]
        accuracy = ["mean", "low", "high", "spread", "per_seed"]
        return pd.DataFrame(rows, columns=[*columns, *accuracy]).set_index("name")

    @property
    def plots(self) -> dict[str, Figure]:
        """Return the report's figures by name, such as "curves" and "confusion"."""
        from hwtune.report.report import plots  # and plotly, which a search can do without

        return plots(read_content(self.folder))

    def write_report(self) -> Path:
        """Write the page of the study anew, and return its path.

        Raises:
            StudyError: when it may not be written.
            HwtuneFailure: when the disk is full.
        """
        from hwtune.report.report import write_report

        try:
            write_report(self.folder)
        except OSError as error:
            raise not_writable(self.folder.report, error) from None
        return self.folder.report

    def classifier(self) -> Classifier:
        """Return the final model.

        Raises:
            StudyError: when none was retrained.
        """
        from hwtune.evaluation import classifier

        return classifier.load_classifier(self.folder.model)

    def export(self) -> Path:
        """Write the final model as `model.onnx` beside it, and return the file.

        Raises:
            StudyError: when none was retrained.
            OptionError: when a package is missing.
            HwtuneFailure: when the file cannot be written, or does not read as the model does.
        """
        from hwtune.evaluation.export import export_onnx

        with self.folder.locked():  # a retraining puts another model there
            return export_onnx(self.classifier(), self.folder.model)

    def resume(
        self,
        *,
        trials: int | None = None,
        time_budget: float | str | None = None,
        target: float | None = None,
        parallel: int | None = None,
        address: str | None = None,
        gpus_per_trial: float | None = None,
        mirror: str | None = None,
        command: str | None = None,
    ) -> None:
        """Go on with the study where it was interrupted, or extend it; see `hwtune resume --help`.

        Raises:
            HwtuneError: when something given is wrong, or there is nothing left to do.
            HwtuneFailure: when no trial was trained, or the files cannot be written any more.
        """
        given = locals()
        reach_out(address)
        from hwtune.pipeline.baseline import resume_baseline
        from hwtune.pipeline.command import command_of, place_of
        from hwtune.pipeline.resume import resume_search
        from hwtune.search.budget import Budget

        more = Budget(
            trials=wished("trials", positive, trials),
            seconds=wished("time_budget", seconds_of, time_budget),
            target=wished("target", accuracy_of, target),
        )
        place = place_of(parallel, address, gpus_per_trial)
        begun = command_of(command or self._call("resume", given, Study.resume))
        with signals_caught():
            if "baseline" not in self.about:
                resume_search(self.folder, more=more, place=place, mirror=mirror, command=begun)
                return
            if more != Budget() or mirror is not None:
                raise OptionError(
                    f"{self.name} is not a search: resume it without a budget or a mirror."
                )
            resume_baseline(self.folder, place=place, command=begun)

    def retrain(
        self,
        *,
        finalists: int = FINALISTS,
        folds: int = FOLDS,
        top: int = TOP,
        seeds: int = SEEDS,
        baselines: bool = False,
        parallel: int | None = None,
        address: str | None = None,
        gpus_per_trial: float | None = None,
        mirror: str | None = None,
        command: str | None = None,
    ) -> None:
        """Retrain the best on several seeds and test them once; see `hwtune retrain --help`.

        Raises:
            HwtuneError: when something given is wrong, or nothing was searched.
            HwtuneFailure: when no training of the best ends well.
        """
        given = locals()
        reach_out(address)
        from hwtune.pipeline.command import command_of, place_of
        from hwtune.pipeline.retrain import retrain_study, retraining_of

        with signals_caught():
            retrain_study(
                self.folder,
                retraining=retraining_of(
                    finalists=finalists, folds=folds, top=top, seeds=seeds, baselines=baselines
                ),
                place=place_of(parallel, address, gpus_per_trial),
                mirror=mirror,
                command=command_of(command or self._call("retrain", given, Study.retrain)),
            )  # fmt: skip

    def _call(self, name: str, given: Mapping[str, Any], method: Callable[..., None]) -> str:
        """Return how a method was called."""
        return f"load_study({self.name!r}).{name}({called_with(given, method)})"

    def __repr__(self) -> str:
        return f"Study({self.name!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the answer and the best trials."""
        content = read_content(self.folder)
        status, outcome = escape(str(content.about["status"])), escape(answer(content))
        best = table_of(content).head(SHOWN).drop(columns=["val_loss", "seconds"])
        best["val_accuracy"] = best["val_accuracy"].map(percent)
        return f"<p><b>{escape(self.name)}</b> ({status}): {outcome}</p>{best.to_html()}"
