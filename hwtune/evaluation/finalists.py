"""Choose among the best trials where one validation part is too small to tell them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from hwtune.contract import Finalist
from hwtune.data.images import Dataset, Integers
from hwtune.data.splits import SplitSpec, split_indices
from hwtune.errors import OptionError
from hwtune.evaluation.candidates import Candidate, Ground, is_of
from hwtune.evaluation.parallel import Job, train_all


def judge(candidates: Sequence[Candidate], ground: Ground, *, folds: int) -> list[Candidate]:
    """Return the candidates in the order of their cross-validation, and write it to `retrain.json`.

    Each is trained `folds` times on train and validation images but for one fold, and judged on
    that fold, so that every image outside of the test part judges each candidate once. Folds keep
    the split's kind: no writer lies in two of a split by writer. Equal candidates keep their order,
    and one of which a training failed comes last. Must run inside a Ray cluster.

    A configuration that watches validation images (early stopping, a plateau) watches those that
    then judge it, which favours it a little, as it does in the search.
    """
    folder, console = ground.folder, ground.console
    pool = split_indices(ground.dataset, ground.split).outside_test
    parts = list(fold_positions(ground.dataset, ground.split, pool, folds=folds))

    def job(each: Candidate, number: int) -> Job:
        title = f"{each.name}, fold {number} of {folds}"
        return Job(title, each.config, 0, ground.data, *parts[number - 1])

    numbers = range(1, folds + 1)
    jobs = {job(each, number): (each, number) for number in numbers for each in candidates}
    scores = {each.name: [math.nan] * folds for each in candidates}
    for done, outcome in train_all(
        list(jobs), folder.retraining, slots=ground.slots, console=console
    ):
        each, number = jobs[done]
        if isinstance(outcome, str):
            console.print(f"Training {done.title} failed: {outcome}")
            continue
        scores[each.name][number - 1] = outcome.val_accuracy
        console.print(f"{done.title}: {outcome.val_accuracy:.2%}")
    weights = [len(judged) for _, judged in parts]
    means = {name: fmean(values, weights) for name, values in scores.items()}
    order = sorted(
        candidates,
        key=lambda each: -math.inf if math.isnan(means[each.name]) else means[each.name],
        reverse=True,
    )
    record = folder.read_retrain()
    record["finalists"] = [_described(each, scores[each.name], weights) for each in order]
    folder.write_retrain(record)
    return order


def as_judged(
    candidates: Sequence[Candidate], judged: Sequence[Finalist], folds: int
) -> list[Candidate] | None:
    """Return the candidates in the order of their judgment in `retrain.json`, None for others."""
    known = [
        each
        for entry in judged
        for each in candidates
        if is_of(entry, each, candidates) and len(entry["per_fold"]) == folds
    ]
    return known if len(known) == len(judged) == len(candidates) else None


def check_folds(dataset: Dataset, spec: SplitSpec, folds: int) -> None:
    """Check that cross-validation trains every class in each fold.

    Raises:
        OptionError: when there are fewer images of a class, or fewer writers, than folds, or a fold
            by writer leaves a class without an image to train on.
    """
    pool = split_indices(dataset, spec).outside_test
    if spec.kind == "writer":
        assert dataset.writers is not None
        most, what = len(np.unique(dataset.writers[pool])), "writers"
    else:
        most, what = int(np.bincount(dataset.labels[pool]).min()), "images of a class"
    if folds > most:
        raise OptionError(f"--folds {folds} is more than there are {what} ({most}); give fewer.")
    if spec.kind == "writer":  # other folds draw from each class
        for train, judged in fold_positions(dataset, spec, pool, folds=folds):
            lacking = np.setdiff1d(dataset.labels[pool[judged]], dataset.labels[pool[train]])
            if len(lacking):
                raise OptionError(
                    f"--folds {folds}: a fold would train without the class "
                    f"{dataset.classes[lacking[0]]!r}, whose writers are too few; leave "
                    "--finalists out."
                )


def fold_positions(
    dataset: Dataset, spec: SplitSpec, pool: Integers, *, folds: int
) -> Iterator[tuple[Integers, Integers]]:
    """Yield for each fold the positions in `pool` of what trains and of what it judges, sorted.

    The folds are disjoint, and all of the pool together.
    """
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    if spec.kind == "writer":
        assert dataset.writers is not None
        by_writer = GroupKFold(folds, shuffle=True, random_state=spec.seed)
        yield from by_writer.split(pool, groups=dataset.writers[pool])
    else:
        by_class = StratifiedKFold(folds, shuffle=True, random_state=spec.seed)
        yield from by_class.split(pool, dataset.labels[pool])


def _described(each: Candidate, scores: Sequence[float], weights: list[int]) -> Finalist:
    """Return what `retrain.json` says of a finalist; None stands for a training that failed.

    Args:
        weights: how many images each fold judged.
    """
    known = [None if math.isnan(value) else value for value in scores]
    mean = None if None in known else fmean(scores, weights)
    return {
        "name": each.name, "config": each.config.to_dict(), "accuracy": mean, "per_fold": known,
        "images": sum(weights),
    }  # fmt: skip
