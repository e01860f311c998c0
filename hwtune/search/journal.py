"""Optuna's study in the journal of a study folder, and what it says of known points."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from hwtune.errors import StudyError
from hwtune.models.layers import Cost
from hwtune.search.attributes import (
    BASELINE,
    CONTINUES,
    COST,
    SAME_AS,
    START,
    cut_off,
    ending,
    known,
    refused,
)
from hwtune.search.objectives import Objectives
from hwtune.space import SearchSpace
from hwtune.study_folder import StudyFolder


class Journal(JournalFileBackend):
    """Optuna's journal, which can write many lines in one go.

    Optuna writes each value of a proposal as a line of its own and waits for the disk each time,
    which on a shared one adds up. This one also remembers two places near its end, not where each
    line began.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, JournalFileOpenLock(path))
        self._held: list[str] | None = None  # lines that the end of a block writes
        self._written = 0  # lines in the file when that block began

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is appended within the block at its end; other writers wait until then."""
        assert self._held is None, "a block within another"
        self._lock.acquire()
        try:
            for _ in super().read_logs(max(self._log_number_offset)):
                pass  # what others wrote, to count it
            self._written, self._held = max(self._log_number_offset), []
            try:
                yield
            finally:
                lines, self._held = self._held, None
                if lines:
                    self._write(lines)
        finally:
            self._lock.release()

    def _write(self, lines: list[str]) -> None:
        with open(self._file_path, "ab") as file:
            start = file.tell()
            if start != self._log_number_offset[self._written]:
                raise OSError("another process left half a line")  # which ours would go on
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
            ends = {self._written: start, self._written + len(lines): file.tell()}
            self._log_number_offset = {0: 0, **ends}

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines to those that are held, or else to the file."""
        if self._held is None:
            with self.together():
                self.append_logs(logs)
            return
        self._held += [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the lines from a number on, those that are held last."""
        if self._held is None or log_number_from < self._written:
            yield from super().read_logs(log_number_from)
        if self._held is not None:
            yield from map(json.loads, self._held[max(0, log_number_from - self._written) :])


def journal_of(folder: StudyFolder) -> JournalStorage:
    """Return Optuna's storage of a study folder, its journal made if it is not there.

    Raises:
        StudyError: when it does not read.
    """
    path = str(folder.journal)
    try:
        return JournalStorage(Journal(path))
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError) as error:
        raise StudyError(
            f"{path} cannot be read ({error}); put back a whole copy, or search anew."
        ) from None


def open_optuna_study(folder: StudyFolder, objectives: Objectives) -> optuna.Study:
    """Return the one Optuna study in the journal of a study folder, made if it is not there.

    Raises:
        StudyError: when epochs are recorded, but the journal that explains them is gone.
    """
    storage = journal_of(folder)
    there = storage.get_all_studies()
    if not there and folder.read_epochs():
        raise StudyError(
            f"{folder.path} has lost {folder.journal.name} and cannot go on; search anew."
        )
    return optuna.create_study(
        storage=storage,
        study_name=there[0].study_name if there else folder.name,  # a folder may be renamed
        directions=objectives.directions,
        load_if_exists=True,
    )


def together(study: optuna.Study) -> AbstractContextManager[None]:
    """Return a block at whose end all that Optuna is told within it is written, in one go."""
    return study._storage._backend.together()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Earlier:
    """What the journal says of earlier runs, without their trials, of up to 10 KB each.

    Attributes:
        trials: how many were begun, as a budget counts them.
        known: see `known_points`.
        cut_off: how many the end of a search cut off after an epoch.
        running: of each of them that is not over: its cost, its epochs, whether no rule stops it.
        epochs: how many are recorded of trials that the journal knows of.
    """

    trials: int = 0
    known: Mapping[str, bool] = field(default_factory=dict)
    cut_off: int = 0
    running: Sequence[tuple[Cost, int, bool]] = ()
    epochs: int = 0


NO_RUNS = Earlier()


def earlier_runs(folder: StudyFolder) -> Earlier:
    """Return what earlier runs of a study did."""
    if not folder.journal.is_file():  # as in a reference study, which cannot go on
        return Earlier(trials=sum(trial.epochs > 0 for trial in folder.read_trials()))
    trials = proposed(folder)
    begun = {trial.number for trial in trials if COST in trial.user_attrs}
    epochs = [epoch.trial for epoch in folder.read_epochs() if epoch.trial in begun]
    unbegun = {trial.number for trial in trials if cut_off(trial)} - {*epochs}
    counting = begun - unbegun
    return Earlier(
        trials=sum(t.number in counting and not refused(t) for t in trials),
        known=known_points(trials),
        cut_off=sum(map(cut_off, trials)) - len(unbegun),
        running=[
            (
                Cost(*t.user_attrs[COST]),
                max(map(epochs.count, {t.number, t.user_attrs.get(CONTINUES, t.number)})),
                known(t),
            )
            for t in trials
            if t.number in begun and not ending(t)
        ],
        epochs=len(epochs),
    )


def proposed(folder: StudyFolder) -> list[FrozenTrial]:
    """Return the trials in the journal of a study folder, none where there is no journal."""
    if not folder.journal.is_file():
        return []
    storage = journal_of(folder)
    return [
        trial
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    ]


def known_points(trials: Iterable[FrozenTrial]) -> dict[str, bool]:
    """Return the names of the baselines and starts among proposed trials; whether each began.

    One that the end of a search cut off is not among them.
    """
    there = [trial.user_attrs for trial in trials if not cut_off(trial)]
    return {
        each[kind]: COST in each or SAME_AS in each
        for each in there
        for kind in (BASELINE, START)
        if kind in each
    }


def enqueue_known_points(
    study: optuna.Study, space: SearchSpace, left_out: Container[str] = ()
) -> None:
    """Queue the baselines, then the points known to work, unless they are there.

    One that the end of an earlier search cut off is queued again, as a trial that goes on with it.

    Args:
        left_out: names of baselines that are not queued.
    """
    trials = study.get_trials(deepcopy=False)
    there = known_points(trials)
    cut = {frozenset(t.params.items()): t.number for t in trials if cut_off(t)}
    for kind, points in ((BASELINE, space.baselines), (START, space.starts)):
        for name, values in points.items():
            if name not in there and not (kind == BASELINE and name in left_out):
                earlier = cut.get(frozenset(values.items()))
                begun = {} if earlier is None else {CONTINUES: earlier}
                study.enqueue_trial(values, user_attrs={kind: name, **begun})


def enqueue_cut_off(study: optuna.Study, order: Iterable[int]) -> None:
    """Queue all other trials that the end of an earlier search cut off, each to be gone on with.

    Args:
        order: the trials whose state was kept, the best first, then those that had no epoch.
    """
    trials = study.get_trials(deepcopy=False)
    continued = {t.user_attrs.get(CONTINUES) for t in trials}
    for number in order:
        if cut_off(trials[number]) and not known(trials[number]) and number not in continued:
            study.enqueue_trial(trials[number].params, user_attrs={CONTINUES: number})


def share_distributions(trial: FrozenTrial, space: SearchSpace) -> None:
    """Let a trial have the space's own distributions, where it has equal ones of its own.

    Optuna's journal makes new ones for each value of each trial: up to 10 KB.
    """
    trial.distributions.update(
        {
            name: space.search[name]
            for name, own in trial.distributions.items()
            if space.search.get(name) == own
        }
    )
