"""What an earlier run of a study left, put back before its search goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import optuna

from hwtune.records import EpochRecord, ranked, taken_over
from hwtune.search.attributes import CONTINUES, COST, cut_off, settle
from hwtune.search.budget import RECENT_EPOCHS
from hwtune.search.checkpoints import Retention, hand_over
from hwtune.search.journal import enqueue_cut_off, enqueue_known_points, share_distributions
from hwtune.search.ledger import Ledger
from hwtune.search.pace import Pace
from hwtune.search.stopping import StoppingRule
from hwtune.space import SearchSpace
from hwtune.states import state_file
from hwtune.study_folder import StudyFolder


def restored(
    study: optuna.Study,
    space: SearchSpace,
    folder: StudyFolder,
    left_out: Container[str],
    *,
    images: int,
) -> tuple[Ledger, list[EpochRecord], dict[int, int]]:
    """Return what an earlier run recorded, the epochs in order, and what trials took over.

    The known points and what the end of a search cut off are queued in the study.

    Args:
        left_out: names of baselines that are not trained.
        images: to train on.
    """
    settle(study)
    ledger = Ledger(folder, space, images=images)
    told = study.get_trials(deepcopy=False)
    for trial in told:
        share_distributions(trial, space)
    begun, waiting = ({t.number for t in told if e in t.user_attrs} for e in (COST, CONTINUES))
    recorded = folder.forget_unknown(begun=begun, waiting=waiting)
    ledger.restore(told, recorded)
    enqueue_known_points(study, space, left_out)
    order = [trial.trial for trial in ranked(ledger.trials.values())]
    kept = [number for number in order if state_file(folder.checkpoints, number).exists()]
    enqueue_cut_off(study, [*kept, *sorted(ledger.unbegun)])
    taken = taken_over(ledger.trials.values(), recorded)
    measured = {epoch.trial for epoch in recorded}
    for trial in study.get_trials(deepcopy=False):
        before, number = trial.user_attrs.get(CONTINUES), trial.number
        if before is not None:
            whose = before
            while whose in ledger.continues and not ledger.trials[whose].epochs:
                whose = ledger.continues[whose]  # cut off before it told of what it had taken over
            ledger.continues[number] = whose
            if hand_over(folder.checkpoints, number, before=before) and (
                number in taken or number not in measured  # else it was trained anew
            ):
                ledger.handed.add(number)
    return ledger, recorded, taken


def retained(folder: StudyFolder, study: optuna.Study, ledger: Ledger, *, limit: int) -> Retention:
    """Return what keeps the states of trials under `limit` bytes, knowing those that ended."""
    retention = Retention(folder.checkpoints, limit)
    cut = {trial.number for trial in study.get_trials(deepcopy=False) if cut_off(trial)}
    for trial in ledger.trials.values():
        if trial.state != "running":
            retention.ended(trial, cut_off=trial.trial in cut)
    return retention


def rebuild(
    rule: StoppingRule,
    ledger: Ledger,
    recorded: Sequence[EpochRecord],
    scores: Callable[[int, Mapping[str, Any]], Sequence[float]],
) -> dict[tuple[int, int], str]:
    """Let a rule hear the recorded epochs again.

    Returns, by trial and epoch, what it decided on the last epoch of each trial that runs on: the
    trial will report that epoch once more, after all before it.
    """
    decided = {}
    for epoch in recorded:
        trial = ledger.trials[epoch.trial]
        found = scores(epoch.trial, vars(epoch))
        verdict = rule.judge(ledger.first(epoch.trial), epoch.epoch, found)
        if trial.state == "running" and epoch.epoch == trial.epochs:
            decided[epoch.trial, epoch.epoch] = verdict
    return decided


def relearn(
    pace: Pace, recorded: Sequence[EpochRecord], taken: Mapping[int, int], drift: Iterable[float]
) -> None:
    """Let the recorded epochs tell what training costs, as if these machines had trained them.

    Args:
        taken, drift: as of `seconds_here`.
    """
    ledger = pace.ledger
    here = seconds_here(ledger, recorded, taken, drift)
    pace.clock.extra = extra_seconds(ledger, recorded, here)
    by = trained_by(ledger, recorded, taken)
    beside = [
        pace.gpus and ledger.on_cpu(who, e.epoch) for who, e in zip(by, recorded, strict=True)
    ]
    every = list(zip(recorded, by, beside, strict=True))
    own = [(epoch, who) for epoch, who, cpu in every if not cpu and who == epoch.trial]
    others = [(epoch, who) for epoch, who, cpu in every if cpu]
    for epoch, who in [*own[-RECENT_EPOCHS:], *others]:  # these when the GPUs' speed is known
        pace.learn(epoch.trial, epoch.epoch, by=who, seconds=here[epoch.trial, epoch.epoch])


def trained_by(
    ledger: Ledger, recorded: Sequence[EpochRecord], taken: Mapping[int, int]
) -> list[int]:
    """Return which trial trained each recorded epoch, which others may have taken over.

    Args:
        taken: by trial, how many of its first epochs another had trained.
    """
    owners: dict[tuple[int, int], int] = {}
    for each in recorded:
        copied = each.epoch <= taken.get(each.trial, 0)
        before = ledger.continues.get(each.trial, each.trial) if copied else each.trial
        owners[each.trial, each.epoch] = owners.get((before, each.epoch), each.trial)
    return [owners[each.trial, each.epoch] for each in recorded]


def seconds_here(
    ledger: Ledger,
    recorded: Sequence[EpochRecord],
    taken: Mapping[int, int],
    drift: Iterable[float],
) -> dict[tuple[int, int], float]:
    """Return what each recorded epoch would take on these machines, by trial and epoch.

    One that a trial took over from another counts by the run that trained it.

    Args:
        taken: by trial, how many of its first epochs another had trained.
        drift: what each would take over what it took, by the run that recorded it; see `drifts`.
    """
    each = zip(recorded, chain(drift, repeat(1.0)), strict=False)
    times = {(epoch.trial, epoch.epoch): own for epoch, own in each}
    by = trained_by(ledger, recorded, taken)
    return {
        (e.trial, e.epoch): times[who, e.epoch] * e.seconds
        for e, who in zip(recorded, by, strict=True)
    }


def extra_seconds(
    ledger: Ledger, recorded: Iterable[EpochRecord], here: Mapping[tuple[int, int], float]
) -> dict[int, float]:
    """Return how many more seconds the recorded epochs of each trial would take here, or less.

    Of a trial that takes over epochs those that it has not reported yet are included.
    """
    more: dict[int, list[float]] = defaultdict(list)  # by trial, epoch after epoch
    for epoch in recorded:
        more[epoch.trial].append(here[epoch.trial, epoch.epoch] - epoch.seconds)
    for number in sorted(ledger.handed):
        own = more[number]
        own += more[ledger.continues[number]][len(own) :]
    return {number: sum(each) for number, each in more.items()}
