import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from rich.console import Console

from hwtune.config import TrialConfig
from hwtune.data.splits import SplitSpec, search_split, split_indices
from hwtune.errors import HwtuneFailure
from hwtune.evaluation import parallel, view
from hwtune.evaluation import retrain as retraining
from hwtune.evaluation.candidates import Candidate, Ground, candidate
from hwtune.evaluation.parallel import Job, Watch, state_name, train_all
from hwtune.evaluation.retrain import retrain, under_names_of
from hwtune.evaluation.tasks import packed, read_one, train_one
from hwtune.records import TrialRecord
from hwtune.report.words import by_writers
from hwtune.results import create_study
from hwtune.slots import Slots
from hwtune.statistics import wilson_interval
from hwtune.training.device import prepare_process
from hwtune.training.loop import train_config
from hwtune.training.state import start_training
from scripts.bench.memory import descendants
from tests.conftest import COLOUR


def test_the_driver_scores_without_scikit_learn():
    script = (
        "import sys; import numpy as np; from hwtune import cluster\n"
        "from hwtune.evaluation.parallel import score\n"
        "from hwtune.slots import Slots\n"
        "with cluster.started(cpus=1):\n"
        "    read = np.array([0, 1, 1])\n"
        "    found = score("
        "labels=read, predicted=read, classes=('a', 'b'), slots=Slots(1))\n"
        "print(found['confusion'], found['per_class']['b']['f1'], 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[[1, 0], [0, 2]] 1.0 False", done.stderr


def test_bars_in_a_terminal_and_lines_elsewhere_say_how_far_trainings_are(monkeypatch):
    lengths, epochs = {"a": 9, "b": 9, "c": 9}, {"a": 9, "b": 4}
    seen = {}
    for terminal in (True, False):
        monkeypatch.setattr(view, "SILENCE", 0.0)
        console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
        with view.shown(lengths, console) as look:
            look(epochs)
        seen[terminal] = COLOUR.sub("", console.file.getvalue())
    assert re.search(r"all epochs .* 13/27", seen[True])
    assert re.search(r"\bb .* 4/9", seen[True])
    assert "9/9" not in seen[True]
    assert seen[False] == "training: b at epoch 4\n"


def test_what_was_tested_as_it_would_be_now_stays_closed(tmp_path, digits, console, ray_here):
    folder, config = create_study(tmp_path, None, "s"), TrialConfig(filters="4", epochs=1)
    two = [Candidate(name, "", replace(config, lr=lr)) for name, lr in (("a", 1e-3), ("b", 1e-4))]
    told = []
    data = ray.put(search_split(digits, SplitSpec()))
    ground = Ground(folder, digits, SplitSpec(), data, Slots(2), console)

    def opened(candidates, seeds=(0,), **more):
        entries = retrain(
            candidates, ground, seeds=seeds, command=f"test {len(told)}",
            opened=lambda: told.append(len(folder.read_retrain()["test_openings"])), **more,
        )  # fmt: skip
        assert [each["name"] for each in entries] == [each.name for each in candidates]
        record = folder.read_retrain()
        assert record["configurations"][0] == entries[0], "whose network model/ is"
        return [each["configuration"] for each in record["test_openings"]]

    assert opened(two[:1]) == ["a"]
    assert opened(two) == ["a", "b"]
    folder.retraining.mkdir()  # of a process that was killed after its last record
    assert opened(two) == ["a", "b"]
    assert not folder.retraining.exists()
    assert "b is retrained and tested already" in console.file.getvalue()
    assert opened(two, again=True) == ["a", "b", "a", "b"]

    def cut_off(candidates, openings):
        folder.retraining.mkdir()
        asked = {"configurations": [e.config.to_dict() for e in candidates], "seeds": [0]}
        began = {"asked": asked, "openings": openings}
        (folder.retraining / "began.json").write_text(json.dumps(began))

    cut_off(two, 3)  # after it had tested b
    assert opened(two, again=True)[4:] == ["a"], "b was tested by the same retraining"
    assert opened(two[::-1])[5:] == ["b"], "the first, since model/ is another's"
    longer = [replace(two[0], config=replace(config, epochs=2))]
    assert opened(longer)[6:] == ["a"]
    (folder.model / "model.json").unlink()
    assert opened(longer)[7:] == ["a"], "its model is gone"
    assert opened(longer, seeds=(0, 1))[8:] == ["a"]
    assert opened(longer)[9:] == [], "two seeds tell more than the one that is asked for"
    record = folder.read_retrain()
    record["test_openings"].append({"configuration": "a"})
    folder.write_retrain(record)
    cut_off(longer, 9)  # before a test pixel was read
    assert opened(longer, again=True)[10:] == ["a"], "what it read before is no test of its own"
    assert told == [*range(1, 10), 11], "each opening, once it is on disk"
    went_on = [replace(longer[0], name="trial 30")]
    assert opened(went_on)[11:] == [], "an extension went on with it under another name"
    names = [each["name"] for each in folder.read_retrain()["configurations"]]
    assert names[0] == "trial 30"
    assert "a" not in names


def test_a_test_of_which_a_seed_had_failed_stands_in_the_same_retraining_alone(tmp_path):
    folder, config = create_study(tmp_path, None, "s"), TrialConfig()
    entry = {"name": "b", "config": config.to_dict(), "seeds": [0, 2], "failed": {"1": "lost"}}
    folder.write_retrain({"configurations": [entry], "test_openings": []})
    asked = [Candidate("a", "", replace(config, lr=0.5)), Candidate("b", "", config)]

    def stands(**more):
        return [*retraining.standing_records(asked, folder, [0, 1, 2], **more)]

    assert stands() == []
    assert stands(failed_too=True) == [1]


def test_the_latest_record_of_a_configuration_stands_and_none_is_lost(tmp_path):
    folder, one, two = create_study(tmp_path, None, "s"), TrialConfig(lr=0.1), TrialConfig(lr=0.2)
    told = [("trial 40", two, 7), ("trial 30", one, 5), ("trial 3", one, 1)]
    entries = [
        {"name": name, "config": config.to_dict(), "seeds": [0], "opening": opening}
        for name, config, opening in told
    ]
    finalists = [{"name": "trial 30"}, {"name": "trial 40"}]
    folder.write_retrain({"configurations": entries, "test_openings": [], "finalists": finalists})

    def kept(name):
        asked = [Candidate("trial 40", "", two), Candidate(name, "", one)]
        found = retraining.standing_records(asked, folder, [0])
        assert found[1]["opening"] == 5
        return under_names_of(asked, found, folder)[1]["name"]

    def names(part):
        return [each["name"] for each in folder.read_retrain()[part]]

    assert kept("trial 30") == "trial 30"
    assert names("configurations") == ["trial 40", "trial 30", "trial 3"]
    assert kept("trial 50") == "trial 50"
    assert names("configurations") == ["trial 40", "trial 50", "trial 3"]
    assert names("finalists") == ["trial 50", "trial 40"]


def test_images_of_few_strangers_widen_the_interval(tmp_path, digits, console, ray_here):
    writers = np.arange(len(digits.labels)) % 30
    written = replace(digits, writers=writers)
    each = Candidate("a", "", TrialConfig(filters="4", epochs=1, lr=1e-3))
    seen, entries = {}, {}
    for kind in ("writer", "random"):
        spec = SplitSpec(kind=kind)
        folder, data = create_study(tmp_path, kind, "s"), ray.put(search_split(written, spec))
        ground = Ground(folder, written, spec, data, Slots(2), console)
        (entry,) = retrain([each], ground, seeds=[0, 1], command="test")
        entries[kind], seen[kind] = entry, entry["test_accuracy"]
        assert 0.1 < seen[kind]["mean"] < 1
    assert "independent_images" not in seen["random"]
    strangers = seen["writer"]
    assert 1 <= strangers["independent_images"] <= 180  # three writers, whose t is 4.3
    low, high = wilson_interval(strangers["mean"], strangers["independent_images"])
    assert strangers["low"] == pytest.approx(low, abs=0.01)
    assert strangers["high"] == pytest.approx(high, abs=0.01)
    # What tells two records apart: who was misread by each seed, or which images.
    by_writer = entries["writer"]["writers"]
    tested = split_indices(written, SplitSpec(kind="writer")).test
    assert by_writer.keys() == set(map(str, writers[tested]))
    assert sum(each["images"] for each in by_writer.values()) == len(tested)
    misread = [sum(each["misread"][seed] for each in by_writer.values()) for seed in (0, 1)]
    assert misread == pytest.approx([len(tested) * (1 - a) for a in strangers["per_seed"]])
    alike = strangers["independent_images"]
    who = "1 writer, who tells" if len(by_writer) == 1 else f"{len(by_writer)} writers, who tell"
    said = f" by {who} as much of others as {alike} image"
    assert by_writers(entries["writer"]).startswith(said)
    assert by_writers(entries["random"]) == ""
    first, second = entries["random"]["misread_by_seed"]
    assert first == [each["image"] for each in entries["random"]["misread"]]
    tested = split_indices(written, SplitSpec()).test
    assert {*first, *second} <= {*tested.tolist()}
    assert len(second) == pytest.approx(len(tested) * (1 - seen["random"]["per_seed"][1]))


@pytest.mark.slow
def test_a_long_retraining_says_how_far_it_is_and_uses_validation_or_not(
    tmp_path, digits, monkeypatch, console, ray_here
):
    monkeypatch.setattr(view, "SILENCE", 0.3)
    monkeypatch.setattr(parallel, "LOOK", 0.2)
    config = TrialConfig(filters="8", epochs=40, lr=3e-3)
    data = ray.put(search_split(digits, SplitSpec()))
    for join in (True, False):
        folder = create_study(tmp_path, None, "s")
        ground = Ground(folder, digits, SplitSpec(), data, Slots(2), console)
        entries = retrain(
            [Candidate("small", "", config)], ground, seeds=[0, 1, 2], join_validation=join,
            command="test",
        )  # fmt: skip
        assert entries[0]["test_accuracy"]["mean"] > 0.9
    said = console.file.getvalue().splitlines()
    assert any("small, seed 0 at epoch" in line for line in said)
    assert sum(line.startswith("retrained small") for line in said) == 6
    assert max(line.count(" at epoch ") for line in said) == 2, "two slots"


CUT_OFF = TrialConfig(filters="8", epochs=6, lr=3e-3, rotation=5.0, ema=0.9)
WATCHING = replace(CUT_OFF, early_stop=2, dropout="0.2", hidden="16")


@pytest.mark.slow
@pytest.mark.parametrize("config", [CUT_OFF, WATCHING])
def test_a_training_goes_on_from_the_state_of_a_killed_process(
    tmp_path, digits, console, config, ray_here
):
    split = search_split(digits, SplitSpec())
    state, batches, watched = start_training(
        config, split.train, split.validation, classes=10, seed=0, fast=prepare_process(gpu=False)
    )
    for _ in zip(range(3), train_config(state, batches, watched, config), strict=False):
        pass
    cut_off = packed(state)

    def trained(seed, saved):
        noted, kept = [], []
        weights, accuracy, epochs, _ = train_one(
            config.to_dict(),
            split.train,
            split.validation,
            classes=10,
            seed=seed,
            gpu=False,
            saved=saved,
            note=noted.append,
            keep=kept.append,
        )
        return weights, accuracy, epochs, noted, kept

    undisturbed, accuracy, epochs, _, kept = trained(0, None)
    resumed, again, as_many, noted, _ = trained(0, cut_off)
    ended, _, still, nothing, _ = trained(0, kept[-1])
    other = trained(1, None)[0]
    foreign = replace(config, filters="4")
    state, *_ = start_training(
        foreign, split.train, split.validation, classes=10, seed=0, fast=prepare_process(gpu=False)
    )
    anew = trained(0, packed(state))[0]
    assert accuracy == again > 0.5
    assert epochs == as_many == still == noted[-1]
    assert noted[0] == 4
    assert nothing == []
    for name, weights in undisturbed.items():
        assert np.array_equal(weights, resumed[name])
        assert np.array_equal(weights, ended[name])
        assert np.array_equal(weights, anew[name])
    assert any(not np.array_equal(weights, other[name]) for name, weights in undisturbed.items())

    # Seed 1 finds the state of seed 0: what it comes to shows that it was taken.
    count = split.train_images
    job = Job("a", config, 1, ray.put(split), slice(count), slice(count, None))
    tmp_path.joinpath(f"{state_name(job)}.pt").write_bytes(cut_off)
    ((_, trained),) = train_all([job], tmp_path, slots=Slots(2), console=console)
    taken = ray.get(trained.weights)
    assert all(np.array_equal(undisturbed[name], taken[name]) for name in undisturbed)


def test_no_more_trainings_run_than_there_are_slots(tmp_path, digits, console, ray_here):
    """On fewer slots than CPUs, as `--parallel` or a small memory makes them."""
    data, config = ray.put(search_split(digits, SplitSpec())), TrialConfig(filters="8", epochs=1)
    jobs = [
        Job(f"{n}", replace(config, epochs=epochs), n, data, slice(None))
        for n, epochs in enumerate((200, 1, 1))
    ]
    ends = train_all(jobs, tmp_path, slots=Slots(1), console=console)
    assert [job.title for job, _ in ends] == ["0", "1", "2"], "the short ones waited for the long"


def test_trainings_that_nobody_waits_for_end(tmp_path, digits, console, ray_here):
    split = search_split(digits, SplitSpec())
    config = TrialConfig(filters="16-32", convs_per_stage=2, epochs=100_000)
    data = ray.put(split)
    short = Job("short", replace(config, epochs=1), 0, data, slice(None))
    long = [Job(f"long {n}", config, n, data, slice(None)) for n in range(2)]
    ends = train_all([short, *long], tmp_path, slots=Slots(2), console=console)
    assert next(ends)[0] is short
    ends.close()  # as an interruption does
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


@pytest.mark.slow
def test_a_training_whose_process_is_killed_goes_on_from_its_state(
    tmp_path, digits, console, monkeypatch, ray_here
):
    split, notes = search_split(digits, SplitSpec()), tmp_path / "notes"
    config = TrialConfig(filters="16-32", convs_per_stage=2, epochs=60, lr=3e-3, ema=0.9)

    class NotingWatch(Watch):
        """Writes down each epoch that it is told of."""

        def note(self, title, epoch):
            """Write down the epoch, too."""
            super().note(title, epoch)
            with notes.open("a") as file:
                file.write(f"{epoch}\n")

    def kill_it():
        """Kill the process once it has saved a state."""
        while not list(tmp_path.glob("[!.]*.pt")):
            time.sleep(0.1)
        for process in descendants(os.getpid()):
            with suppress(OSError):  # one that has ended meanwhile
                if "ray::_train" in Path(f"/proc/{process}/cmdline").read_text(errors="replace"):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    monkeypatch.setattr(parallel, "Watch", NotingWatch)
    killed = []
    killer = threading.Thread(target=kill_it, daemon=True)
    killer.start()
    job = Job("a", config, 0, ray.put(split), slice(None))
    ((_, trained),) = train_all([job], tmp_path, slots=Slots(1), console=console)
    killer.join()
    weights = {name: array.copy() for name, array in ray.get(trained.weights).items()}
    assert len(killed) == 1
    told = notes.read_text().split()
    assert len(told) > 30
    assert told.count("1") == 1, "from its state, not from the beginning"
    undisturbed, *_ = train_one(
        config.to_dict(),
        split.part(slice(None)),
        None,
        classes=10,
        seed=0,
        gpu=False,
        saved=None,
        note=lambda _: None,
        keep=lambda _: None,
    )
    assert all(np.array_equal(undisturbed[name], weights[name]) for name in undisturbed)


@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_a_training_goes_on_from_its_state_and_reads_with_what_it_learned(digits, gpu):
    """Adam, OneCycle and averaged weights; on a GPU with bfloat16 and graphs."""
    if gpu and not torch.cuda.is_available():
        pytest.skip("no GPU")
    config = TrialConfig(filters="8-16", epochs=6, lr=3e-3, lr_schedule="onecycle", ema=0.9)
    split, kept = search_split(digits, SplitSpec()), []
    state, batches, _ = start_training(
        config, split.train, None, classes=10, seed=0, fast=prepare_process(gpu=gpu)
    )
    for _ in zip(range(3), train_config(state, batches, None, config), strict=False):
        pass
    weights, accuracy, epochs, _ = train_one(
        config.to_dict(), split.train, split.validation, classes=10, seed=0, gpu=gpu,
        saved=packed(state), note=lambda _: None, keep=kept.append,
    )  # fmt: skip
    assert epochs == 6
    assert accuracy > 0.8
    read = read_one(config.to_dict(), weights, split.validation.images, 10, gpu=gpu)
    assert np.mean(read.classes == split.validation.labels) == pytest.approx(accuracy, abs=0.01)
    assert ((read.probabilities >= 0.1) & (read.probabilities <= 1)).all()


def test_a_training_whose_state_does_not_read_begins_anew(digits):
    config = TrialConfig(filters="8-16", epochs=1, lr=3e-3)
    split, kept = search_split(digits, SplitSpec()), []

    def trained(saved):
        return train_one(
            config.to_dict(), split.train, None, classes=10, seed=0, gpu=False,
            saved=saved, note=lambda _: None, keep=kept.append,
        )[0]  # fmt: skip

    whole = trained(None)
    for damaged in (kept[0][:-1000], b"no state at all", b""):
        assert all(np.array_equal(whole[name], again) for name, again in trained(damaged).items())


def test_the_end_of_ray_is_no_fault_of_a_training(ray_here):
    @ray.remote(max_retries=0)
    def lose():
        raise ray.exceptions.LocalRayletDiedError

    with pytest.raises(HwtuneFailure, match="Ray has ended on this machine .* is kept"):
        parallel._outcome(lose.remote(), lose.remote(), gpu=False)


def test_a_baseline_that_was_cut_off_is_retrained_in_full():
    cut = TrialRecord(0, "old", state="stopped", epochs=2, best_epoch=2)
    own, whole = replace(cut, baseline=""), replace(cut, state="complete")
    lengths = [candidate(each, TrialConfig(epochs=12)).config.epochs for each in (cut, own, whole)]
    assert lengths == [12, 2, 2]


def test_a_state_belongs_to_a_title_a_configuration_and_a_seed():
    config = TrialConfig()
    jobs = [
        Job("a", config, 0, None, slice(9)), Job("b", config, 0, None, slice(9)),
        Job("a", config, 1, None, slice(9)),
        Job("a", replace(config, epochs=3), 0, None, slice(9)),
    ]  # fmt: skip
    assert len({state_name(job) for job in jobs}) == 4
