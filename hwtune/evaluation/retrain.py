"""Retrain configurations on several seeds and open the test set once for each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray

from hwtune.board import add_distorted, add_picture, examples
from hwtune.contract import TestRecord
from hwtune.data.sealed import open_test
from hwtune.data.splits import SearchSplit
from hwtune.errors import NoneTrained
from hwtune.evaluation.candidates import Candidate, Ground, is_of
from hwtune.evaluation.leaks import leaks
from hwtune.evaluation.parallel import Job, Trained, read_all, score, train_all
from hwtune.evaluation.saved import is_of_record, save_model
from hwtune.evaluation.tested import record_of_test
from hwtune.files import beside, now, write_atomic
from hwtune.hardware import made_by
from hwtune.pictures import confusion_picture
from hwtune.statistics import is_matrix
from hwtune.study_folder import StudyFolder
from hwtune.words import counted

BEGAN = "began.json"  # beside the states of a retraining: what it is, and the openings before it


@dataclass(frozen=True)
class Trainings:
    """What the trainings of a candidate came to, by seed: a network, or why they failed."""

    nets: dict[int, Trained]
    failed: dict[int, str]


def retrain(
    candidates: Sequence[Candidate],
    ground: Ground,
    *,
    seeds: Sequence[int],
    command: str,
    join_validation: bool = True,
    again: bool = False,
    asked: Sequence[Candidate] = (),
    opened: Callable[[], None] = lambda: None,
) -> list[TestRecord]:
    """Retrain, test, and write `retrain.json`; the first candidate's first seed becomes `model/`.

    Each opening of the test set is on disk before a test pixel is read. What a killed process had
    trained is taken up again. Must run inside a Ray cluster.

    Args:
        join_validation: whether configurations that do not watch the validation images train on
            them, too.
        again: whether what is recorded with the same configuration and these seeds, or more, is
            trained and tested once more; otherwise its record stands, and its test images stay
            closed. What the same retraining had tested before it was cut off stays so, too.
        asked: what the command retrains if all goes well, by which it is known when it is given
            again; default: the candidates.
        opened: called when an opening of the test set is on disk.

    Raises:
        NoneTrained: when no training of the first candidate ends well; nothing is tested then.
    """
    folder, say = ground.folder, ground.console.print
    kept = standing_records(candidates, folder, seeds, failed_too=again)
    if again:
        began = began_at(asked or candidates, folder, seeds)
        kept = {i: record for i, record in kept.items() if record.get("opening", -1) >= began}
    kept = under_names_of(candidates, kept, folder)
    for record in kept.values():
        say(f"{record['name']} is retrained and tested already; its record stands.")
    waiting = {i: each for i, each in enumerate(candidates) if i not in kept}
    if not waiting:
        discard(folder.retraining)
        return list(kept.values())
    say(f"Retraining with {counted(len(seeds), 'seed')}, then testing once.")
    trained = train_seeds(waiting, ground, seeds, join_validation=join_validation)
    if 0 in trained and not trained[0].nets:
        raise NoneTrained(f"No training of {candidates[0].name} ended well.")
    records: list[TestRecord] = []
    for index, each in enumerate(candidates):
        if index in kept:
            records.append(kept[index])
        elif trained[index].nets:
            records.append(read_test(each, trained[index], ground, command=command, opened=opened))
            if index == 0:  # before the records name it the winner
                records[0]["weights_sha256"] = save_first(each, trained[index], ground)
            write_first(records, folder)
    with suppress(OSError):  # pictures are only to look at
        show(records, candidates[0], ground)
    discard(folder.retraining)
    return records


def train_seeds(
    candidates: Mapping[int, Candidate],
    ground: Ground,
    seeds: Sequence[int],
    *,
    join_validation: bool,
) -> dict[int, Trainings]:
    """Train each candidate with every seed, and return what that came to, by its number."""
    split: SearchSplit = ray.get(ground.data)

    def job(each: Candidate, seed: int) -> Job:
        title, watches = f"{each.name}, seed {seed}", each.config.needs_validation
        if join_validation and not watches:
            return Job(title, each.config, seed, ground.data, slice(None))
        count = split.train_images
        validation = slice(count, None) if watches else None
        return Job(title, each.config, seed, ground.data, slice(count), validation)

    jobs = {job(each, seed): (i, seed) for i, each in candidates.items() for seed in seeds}
    outcomes: dict[tuple[int, int], Trained | str] = {}
    say, states = ground.console.print, ground.folder.retraining
    for done, outcome in train_all(list(jobs), states, slots=ground.slots, console=ground.console):
        outcomes[jobs[done]] = outcome
        if isinstance(outcome, str):
            say(f"Retraining {done.title} failed: {outcome}")
        else:
            well = sum(isinstance(each, Trained) for each in outcomes.values())
            say(f"retrained {done.title} ({well} of {len(jobs)})")
    return {
        i: Trainings(
            nets={s: net for s in seeds if isinstance(net := outcomes[i, s], Trained)},
            failed={s: words for s in seeds if isinstance(words := outcomes[i, s], str)},
        )
        for i in candidates
    }


def read_test(
    each: Candidate,
    trainings: Trainings,
    ground: Ground,
    *,
    command: str,
    opened: Callable[[], None],
) -> TestRecord:
    """Open the test set for a candidate, and return what its networks read there."""
    dataset, split, slots = ground.dataset, ground.split, ground.slots
    kept = ground.folder.read_retrain()
    which = len(kept["test_openings"])
    kept["test_openings"].append(
        {"time": now(), "command": command, "configuration": each.name, "made_by": made_by()}
    )
    ground.folder.write_retrain(kept)  # before a test pixel is read
    opened()
    part, images = open_test(dataset, split)
    if "leaks" not in kept:
        ground.folder.write_retrain({**kept, "leaks": leaks(dataset, images)})
    weights = [net.weights for net in trainings.nets.values()]
    read = read_all(each.config, weights, part.images, len(dataset.classes), slots=slots)
    first = read[0].classes
    scored = score(labels=part.labels, predicted=first, classes=dataset.classes, slots=slots)
    strangers = dataset.writers if split.kind == "writer" else None
    record = record_of_test(
        each, trainings.nets, dataset, read=read, labels=part.labels, images=images,
        writers=None if strangers is None else strangers[images], scored=scored,
    )  # fmt: skip
    failed = {str(seed): why for seed, why in trainings.failed.items()}
    return {**record, "failed": failed, "opening": which}


def save_first(each: Candidate, trainings: Trainings, ground: Ground) -> str:
    """Make the network of a candidate's first seed the study's `model/`; return its hash."""
    first, dataset = next(iter(trainings.nets.values())), ground.dataset
    return save_model(
        ground.folder.model, first.held, each.config, dataset.classes, side=dataset.side
    )


def write_first(records: Sequence[TestRecord], folder: StudyFolder) -> None:
    """Put records at the beginning of `retrain.json`, in place of others of their names."""
    kept, names = folder.read_retrain(), {record["name"] for record in records}
    others = [each for each in kept["configurations"] if each["name"] not in names]
    kept["configurations"] = [*records, *others]  # the winner stands first
    folder.write_retrain(kept)


def standing_records(
    candidates: Sequence[Candidate],
    folder: StudyFolder,
    seeds: Sequence[int],
    *,
    failed_too: bool = False,
) -> dict[int, TestRecord]:
    """Return the records, by place, of those candidates that were tested as they would be now.

    More seeds are as good. The first one's is left out where `model/` is another's.

    Args:
        failed_too: whether seeds count whose training failed.
    """

    def tried(entry: TestRecord) -> set[int]:
        return {*entry["seeds"], *(map(int, entry.get("failed", {})) if failed_too else ())}

    before = folder.read_retrain()["configurations"]
    return {
        index: entry
        for index, each in enumerate(candidates)
        for place, entry in reversed([*enumerate(before)])  # the latest stands, which is the first
        if is_of(entry, each, candidates)
        and set(seeds) <= tried(entry)
        and (index > 0 or (place == 0 and is_of_record(folder.model, entry)))
    }


def under_names_of(
    candidates: Sequence[Candidate], kept: Mapping[int, TestRecord], folder: StudyFolder
) -> dict[int, TestRecord]:
    """Return records that stand for candidates, by place, with their names, also in the file.

    A trial that an extension went on with has another name than its record.
    """
    now = {kept[i]["name"]: candidates[i].name for i in kept}
    if any(before != after for before, after in now.items()):
        record = folder.read_retrain()
        record["configurations"] = [
            each
            for each in record["configurations"]
            if each["name"] in now or each["name"] not in now.values()
        ]
        for each in (*record["configurations"], *record.get("finalists", ())):
            each["name"] = now.get(each["name"], each["name"])
        folder.write_retrain(record)
        found = {each["name"]: each for each in record["configurations"]}
        return {i: found[candidates[i].name] for i in kept}
    return dict(kept)


def began_at(candidates: Sequence[Candidate], folder: StudyFolder, seeds: Sequence[int]) -> int:
    """Return how many openings there were when a retraining began, and note it beside its states.

    One that was cut off and left its states began where the same configurations and seeds noted it
    first, whatever else the command says.
    """
    noted = folder.retraining / BEGAN
    asked = {"configurations": [each.config.to_dict() for each in candidates], "seeds": [*seeds]}
    with suppress(FileNotFoundError):
        before = json.loads(noted.read_text(encoding="utf-8"))
        if before.get("asked") == asked:
            return int(before["openings"])
    folder.retraining.mkdir(exist_ok=True)
    openings = len(folder.read_retrain()["test_openings"])
    write_atomic(noted, json.dumps({"asked": asked, "openings": openings}))
    return openings


def show(records: Sequence[TestRecord], first: Candidate, ground: Ground) -> None:
    """Show in TensorBoard what was confused, and how the first candidate distorts its images."""
    train, board = ray.get(ground.data).train, ground.folder.tensorboard
    titles = examples(train.images, train.labels)
    for record in records:
        if is_matrix(record["confusion"]):
            picture = confusion_picture(record["confusion"], titles)
            add_picture(board, f"confusion/{record['name']}", picture)
    add_distorted(board, f"distorted/{first.name}", first.config, titles)


def discard(states: Path) -> None:
    """Remove the states of trainings, of which a last one may still be on its way to the disk."""
    if states.is_dir():
        gone = beside(states)
        states.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
