"""The main command on real digits, in real processes."""

import csv
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwtune.config import trial_config
from hwtune.data import load_data
from hwtune.data.sealed import open_test
from hwtune.data.splits import SplitSpec
from hwtune.evaluation.classifier import AT_ONCE, load_classifier
from hwtune.records import ranked
from hwtune.report.words import exact, percent
from hwtune.statistics import wilson_interval
from hwtune.study_folder import StudyFolder
from hwtune.training.device import choose_device
from scripts.bench.faults import PATIENCE
from tests.conftest import assert_refused

TRIALS = 8


def run(words, results, *, offline=False, **options):
    environment = {**os.environ, "HWTUNE_RESULTS": str(results), "COLUMNS": "120"}
    if offline:
        environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-m", "hwtune", *map(str, words)],
        capture_output=True, text=True, env=environment, timeout=500, **options,
    )  # fmt: skip


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(pid):
    """Return (address, port) of every TCP socket on which a process and its children listen."""
    with suppress(psutil.Error):  # it has ended
        family = {pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))}
        every = psutil.net_connections("tcp")
        return {tuple(c.laddr) for c in every if c.status == "LISTEN" and c.pid in family}
    return set()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the folder and the output of one whole search, and the addresses it listened on."""
    results = tmp_path_factory.mktemp("results")
    words = ("search", "digits_cnn", "--trials", TRIALS, "--seeds", 2, "--baselines", "--name", "s")
    seen, output, complaint = set(), results / "output", results / "complaint"
    with output.open("w") as told, complaint.open("w") as complained:
        process = subprocess.Popen(
            [sys.executable, "-m", "hwtune", *map(str, words)], stdout=told, stderr=complained,
            env={**os.environ, "HWTUNE_RESULTS": str(results), "COLUMNS": "120"},
        )  # fmt: skip
        try:
            until = time.monotonic() + 500
            while process.poll() is None and time.monotonic() < until:
                seen |= listening(process.pid)
                time.sleep(1)
        finally:
            process.kill()  # one that hangs
            process.wait()
    assert process.returncode == 0, complaint.read_text()
    done = subprocess.CompletedProcess(words, 0, output.read_text(), complaint.read_text())
    return results / "s", done, seen


def about(study):
    return json.loads((study[0] / "study.json").read_text())


def rows(study, name):
    with (study[0] / name).open(newline="") as file:
        return list(csv.DictReader(file))


def optuna_trials(study):
    storage = JournalStorage(JournalFileBackend(str(study[0] / "optuna.journal")))
    return optuna.load_study(study_name="s", storage=storage)


def test_the_folder_holds_what_the_contract_says(study):
    there = {path.name for path in study[0].iterdir()}
    assert there >= {
        "study.json", "space.py", "trials.csv", "epochs.csv", "optuna.journal", "tensorboard",
        "logs", "checkpoints", "retrain.json", "model", "report.html",
    }  # fmt: skip
    assert {path.name for path in (study[0] / "model").iterdir()} == {
        "model.json", "model.safetensors",
    }  # fmt: skip
    assert not [name for name in there if name.startswith(".") and name != ".lock"]


def test_study_json_describes_the_study(study):
    content = about(study)
    assert content["status"] == "complete"
    assert content["data"]["name"] == "digits"
    assert content["data"]["sha256"] == load_data("digits").sha256
    assert content["split"]["counts"] == {"train": 1439, "validation": 179, "test": 179}
    assert content["budget"] == {
        "trials": TRIALS, "epochs": 9, "seconds": None, "target": None, "before": 0.0,
    }  # fmt: skip
    assert content["seconds"] > 1
    assert content["command"].startswith("hwtune search digits_cnn --trials 8")
    (only,) = content["runs"]
    assert only["status"] == "complete"
    assert only["forecast"].keys() == {"trials", "epochs", "seconds"}
    assert only["forecast"]["trials"] == TRIALS
    said = f"Forecast: about {TRIALS} trials, {only['forecast']['epochs']} epochs, "
    assert said in study[1].stdout
    expected = {"format", "study", "space", "sampler", "scheduler", "seed", "versions",
                "git_commit", "hardware", "started"}  # fmt: skip
    assert expected <= content.keys()


def test_each_trial_ended_and_says_why(study):
    trials = [row for row in rows(study, "trials.csv") if row["epochs"] != "0"]
    assert len(trials) == TRIALS
    assert trials[0]["baseline"] == "plain"
    assert trials[0]["state"] == "complete"
    for row in trials:
        assert row["state"] in ("complete", "stopped")
        assert (row["state"] == "stopped") == ("needed" in row["reason"])
        assert 0 <= float(row["val_accuracy"]) <= 1
        assert (study[0] / "logs" / f"{row['trial']}.log").stat().st_size
    assert any(row["state"] == "stopped" for row in trials)


def by_accuracy(study):
    """Return the rows of the trained trials, the best first; fewer parameters decide at last."""
    return sorted(
        (row for row in rows(study, "trials.csv") if row["state"] != "failed"),
        key=lambda r: (-float(r["val_accuracy"]), float(r["val_loss"]), int(r["parameters"])),
    )


def test_a_search_starts_from_the_best_of_an_earlier_one(study, tmp_path, hwtune):
    results = study[0].parent
    done = run(
        ("search", "digits_cnn", "--starts-from", "s", "--trials", 4, "--epochs", 1, "--seeds", 1,
         "--name", "next"), results,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = results / "next", done
    (origin,) = about(after)["started_from"]
    assert origin["study"] == "s"
    new = [row["trial"] for row in by_accuracy(study) if not row["baseline"]]
    assert str(origin["trials"][0]) == new[0], "a baseline is in the space already"
    assert f"Starts from s (trials {', '.join(map(str, origin['trials']))})." in done.stdout
    page = (after[0] / "report.html").read_text()
    assert "of s, which searched digits, were to be tried right after the baselines." in page
    searched = about(study)["space"]["search"]
    old = {row["trial"]: row for row in rows(study, "trials.csv")}
    first, *others = rows(after, "trials.csv")
    assert first["baseline"] == "plain"
    taken = [{name: row[name] for name in searched} for row in others]
    known = [{name: old[str(trial)][name] for name in searched} for trial in origin["trials"]]
    fresh = [point for point in known if point != {name: first[name] for name in searched}]
    assert fresh
    assert taken[: len(fresh)] == fresh
    other = ("--split-seed", 7, "--name", "other")
    refused = hwtune("search", "digits_cnn", "--starts-from", study[0], *other)
    assert_refused(refused, "another split of digits", "--split-seed 0")
    refused = hwtune("search", "digits_cnn", "--starts-from", "nothing")
    assert_refused(refused, "Unknown study 'nothing'")
    assert not (tmp_path / "results" / "other").exists()


def test_every_epoch_is_recorded_once(study):
    epochs = [(int(row["trial"]), int(row["epoch"])) for row in rows(study, "epochs.csv")]
    assert len(set(epochs)) == len(epochs)
    for row in rows(study, "trials.csv"):
        mine = sorted(epoch for trial, epoch in epochs if trial == int(row["trial"]))
        assert mine == list(range(1, int(row["epochs"]) + 1))


def test_optuna_knows_the_truth(study):
    kept = {int(row["trial"]): row for row in rows(study, "trials.csv")}
    states = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED,
              "failed": TrialState.PRUNED}  # fmt: skip
    loaded = optuna_trials(study)
    asked = [t for t in loaded.trials if "same_as" not in t.user_attrs]
    assert len(asked) == len(kept)
    for trial in asked:
        row = kept[trial.number]
        assert trial.state == states[row["state"]]
        epochs = [e for e in rows(study, "epochs.csv") if int(e["trial"]) == trial.number]
        told = {int(e["epoch"]): pytest.approx(float(e["val_accuracy"]), abs=1e-5) for e in epochs}
        assert trial.intermediate_values == told
        if trial.state == TrialState.COMPLETE:
            assert trial.value == pytest.approx(float(row["val_accuracy"]), abs=1e-5)
    complete = [row for row in kept.values() if row["state"] == "complete"]
    best = max(float(row["val_accuracy"]) for row in complete)
    assert loaded.best_trial.value == pytest.approx(best, abs=1e-5)


def test_the_winner_is_the_best_on_validation(study):
    best = by_accuracy(study)[0]
    winner = json.loads((study[0] / "retrain.json").read_text())["configurations"][0]
    expected = best["baseline"] or f"trial {best['trial']}"
    assert winner["name"] == expected
    epochs = [e for e in rows(study, "epochs.csv") if e["trial"] == best["trial"]]
    epoch = max(epochs, key=lambda e: (float(e["val_accuracy"]), -float(e["val_loss"])))
    config = trial_config(winner["config"])
    assert config.epochs == config.retrain_epochs(int(epoch["epoch"]))


def test_the_test_set_was_opened_once_for_each_configuration(study):
    record = json.loads((study[0] / "retrain.json").read_text())
    names = [c["name"] for c in record["configurations"]]
    assert [o["configuration"] for o in record["test_openings"]] == names
    assert "plain" in names
    for entry in record["configurations"]:
        accuracy = entry["test_accuracy"]
        assert accuracy["mean"] == pytest.approx(np.mean(accuracy["per_seed"]))
        assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
        assert len(accuracy["per_seed"]) == len(entry["seeds"]) == 2
        matrix = np.array(entry["confusion"])
        assert matrix.sum() == 179
        assert matrix.trace() / 179 == pytest.approx(accuracy["per_seed"][0])
        assert len(entry["misread"]) == 179 - matrix.trace()
        assert set(entry["per_class"]) == set("0123456789")


def test_predict_reads_images_of_the_data_set(study, tmp_path, hwtune):
    part, _ = open_test(load_data("digits"), SplitSpec())
    paths = []
    for index in range(40):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(part.images[index]).save(paths[-1])
    done = run(["predict", study[0], *paths, "--json"], tmp_path)
    answers = json.loads(done.stdout)
    right = sum(a["label"] == str(label) for a, label in zip(answers, part.labels, strict=False))
    assert right >= 30
    text = hwtune("predict", study[0], paths[0]).stdout
    assert f"{paths[0]}: {answers[0]['label']} (" in text
    words = ("predict", study[0], paths[0], "--top", "2")
    (row,) = json.loads(hwtune(*words, "--json").stdout)
    (second,) = row["others"]
    assert row["label"] == answers[0]["label"] != second["label"]
    assert f", {second['label']} ({second['probability']:.1%})" in hwtune(*words).stdout
    (line,) = csv.DictReader(hwtune(*words, "--csv").stdout.splitlines())
    assert (line["label"], line["label_2"]) == (row["label"], second["label"])
    assert float(line["probability_2"]) == second["probability"]


def test_predict_lists_what_a_person_should_look_at(study, tmp_path, hwtune):
    digits = load_data("digits")
    for index in range(40):
        Image.fromarray(digits.images[index]).save(tmp_path / f"{index:02}.png")
    everything = json.loads(hwtune("predict", study[0], tmp_path, "--json").stdout)
    below = sorted(row["probability"] for row in everything)[10]
    few = [row for row in everything if row["probability"] < below]
    words = ("predict", study[0], tmp_path, "--below", below)
    assert json.loads(hwtune(*words, "--json").stdout) == few
    table = csv.DictReader(hwtune(*words, "--csv").stdout.splitlines())
    assert [row["image"] for row in table] == [row["image"] for row in few]
    *lines, last = hwtune(*words).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [row["image"] for row in few]
    assert last.startswith("10 of 40 pictures read with less than ")
    assert_refused(hwtune(*words, "--labelled"), "give one")
    assert_refused(hwtune("predict", study[0], tmp_path, "--below", "84"), "'84'", "0.9")


def test_the_page_says_how_sure_the_winner_is(study):
    winner = json.loads((study[0] / "retrain.json").read_text())["configurations"][0]
    page = (study[0] / "report.html").read_text(encoding="utf-8")
    weights = json.loads((study[0] / "model" / "model.json").read_text())["weights_sha256"]
    assert winner["weights_sha256"] == weights
    assert winner["coverage"]
    for each in winner["coverage"]:
        assert each["images"] < winner["test_images"]
        left = round((1 - each["accuracy"]) * each["images"])
        cells = (len(winner["misread"]) - left, left, percent(each["accuracy"]))
        assert "".join(f'<td class="number">{cell}</td>' for cell in cells) in page
        assert f'<td class="number">{exact(each["threshold"])}</td>' in page
    assert f"--below {winner['coverage'][0]['threshold']}" in page


def test_predict_reads_a_folder_and_names_what_is_no_picture(study, tmp_path, hwtune):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("1.png", "3.png"):
        Image.new("L", (8, 8)).save(folder / name)
    (folder / "2.png").write_bytes(b"")
    done = hwtune("predict", study[0], folder)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        str(folder / "1.png"), str(folder / "3.png"),
    ]  # fmt: skip
    assert_refused(done, "2.png cannot be read as a picture")
    rows = json.loads(hwtune("predict", study[0], folder, "--json").stdout)
    assert [sorted(row) for row in rows] == [
        ["image", "label", "probability"], ["error", "image"], ["image", "label", "probability"],
    ]  # fmt: skip
    table = list(csv.DictReader(hwtune("predict", study[0], folder, "--csv").stdout.splitlines()))
    assert [row["label"] for row in table] == [row.get("label", "") for row in rows]
    assert [bool(row["error"]) for row in table] == [False, True, False]
    (folder / "2.png").rename(folder / "2.heic")
    (folder / "notes.txt").write_text("no picture by its name")
    done = hwtune("predict", study[0], folder)
    assert done.returncode == 0
    assert done.stderr.startswith("hwtune: passed over 2 files (.heic, .txt); pictures end in .png")
    (tmp_path / "empty").mkdir()
    (folder / "monday").symlink_to(tmp_path / "empty")
    (folder / ".hidden").symlink_to(tmp_path / "empty")
    done = hwtune("predict", study[0], folder)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if "link" in line] == [
        f"hwtune: {folder / 'monday'} is a link to a folder, which is not followed; give it, too.",
    ]
    done = hwtune("predict", study[0], tmp_path / "empty", folder / "1.png")
    assert done.stdout.startswith(f"{folder / '1.png'}: ")
    assert_refused(done, "empty holds no picture")


def test_predict_says_how_many_labelled_pictures_it_reads(study, tmp_path, hwtune):
    digits, later = load_data("digits"), tmp_path / "9" / "later"  # within a folder for 9 things
    for index in range(30):
        # Some lie a folder deeper, some of the first writer's are labelled wrongly.
        label = digits.classes[(digits.labels[index] + (index < 3)) % 10]
        folder = later / label / ("3" if index % 2 else "")  # the third writer
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[index]).save(folder / f"{index}.png")
    words = ("predict", study[0], later, "--labelled")
    rows = json.loads(hwtune(*words, "--json").stdout)
    assert [row["labelled"] for row in rows] == [
        str(Path(row["image"]).relative_to(later).parts[0]) for row in rows
    ]
    assert_refused(hwtune("predict", study[0], rows[0]["image"], "--labelled"), "give the folder")
    right = sum(row["label"] == row["labelled"] for row in rows)
    assert (len(rows), right < 30) == (30, True)
    *misread, total, often = hwtune(*words).stdout.splitlines()
    low, high = wilson_interval(right / 30, 30)
    assert total == (
        f"{right} of 30 pictures read as labelled: {right / 30:.2%} "
        f"(95 % interval over such pictures {low:.2%} to {high:.2%})."
    )
    assert len(misread) == 30 - right
    assert all(", labelled " in line for line in misread)
    assert often.startswith("Misread most often: ")
    table = list(csv.DictReader(hwtune(*words, "--csv").stdout.splitlines()))
    assert [row["labelled"] for row in table] == [row["labelled"] for row in rows]
    (later / "other").mkdir()
    Image.new("L", (8, 8)).save(later / "other" / "1.png")
    assert_refused(hwtune(*words), "other/1.png lies in no folder of a class")


def test_lines_for_a_spreadsheet_come_while_pictures_are_still_read(study, tmp_path):
    """A pipe of 4,096 bytes holds the command up in its first pictures; the last goes meanwhile."""
    pictures = [tmp_path / f"{n:0{99 - len(str(tmp_path)) - 4}}.png" for n in range(AT_ONCE + 1)]
    for each in pictures:
        Image.new("L", (8, 8)).save(each)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "hwtune", "predict", study[0], *pictures, "--csv"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.DEVNULL):
        os.close(writer)
        head = os.read(reader, 5)  # and the pipe is full again
        pictures[-1].unlink()
        with open(reader, "rb") as lines:
            read = head + lines.read()
    names, *rows = csv.reader(read.decode().splitlines())
    assert names == ["image", "label", "probability", "error"]
    assert len(rows) == AT_ONCE + 1
    assert [bool(error) for *_, error in rows] == [False] * AT_ONCE + [True]


def test_a_retraining_that_is_interrupted_goes_on_with_the_same_command(study, tmp_path):
    shutil.copytree(study[0], tmp_path / "s")
    words = ["retrain", "s", "--seeds", "6"]
    with subprocess.Popen(
        [sys.executable, "-m", "hwtune", *words], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "HWTUNE_RESULTS": str(tmp_path)},
    ) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("retrained "):
                break
        deadline = time.monotonic() + PATIENCE
        # Whole, not on its way to the disk, where the end would overtake it.
        while not list((tmp_path / "s" / "retraining").glob("[!.]*.pt")):
            assert time.monotonic() < deadline, "a state is on its way to the disk"
            time.sleep(0.05)
        process.terminate()  # as Ctrl-C, which a parent may have switched off
        said, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, complaint
    assert re.search(r"is kept. To continue: \S*python -m hwtune retrain s --seeds 6\n", said)
    assert list((tmp_path / "s" / "retraining").glob("[!.]*.pt"))
    done = run(words, tmp_path)
    assert done.returncode == 0, done.stderr
    tested = json.loads((tmp_path / "s" / "retrain.json").read_text())["configurations"][0]
    assert tested["seeds"] == [0, 1, 2, 3, 4, 5]
    assert len(tested["epochs"]) == 6
    assert tested["dtypes"] == 6 * [choose_device(gpu=False).dtype]


def test_trials_that_a_killed_search_left_behind_are_made_anew_before_a_retraining(study, tmp_path):
    copy = StudyFolder(shutil.copytree(study[0], tmp_path / "s"))
    table = copy.path / "trials.csv"
    before = copy.read_trials()
    table.write_text(table.read_text().replace("complete", "running").replace("stopped", "running"))
    assert copy.read_trials() != before
    about = copy.read_study()
    about["runs"][-1] |= {"seconds": None, "status": "running"}
    del about["search_seconds"]
    copy.write_study({**about, "status": "running", "mirror": (tmp_path / "mine").as_uri()})
    moved = (tmp_path / "moved").as_uri()
    done = run(["retrain", copy.path, "--seeds", "1", "--mirror", moved], tmp_path)
    assert done.returncode == 0, done.stderr
    assert copy.read_trials() == before
    assert not (tmp_path / "mine").exists()
    tested = (tmp_path / "moved" / "s" / "retrain.json").read_text()
    assert json.loads(tested) == copy.read_retrain()


def test_a_best_trial_that_cannot_be_trained_again_makes_room_for_the_next(study, tmp_path):
    copy = StudyFolder(shutil.copytree(study[0], tmp_path / "s"))

    def spoil(*trials):
        """Let trials have a rate at which training diverges."""
        table = list(csv.DictReader(io.StringIO((copy.path / "trials.csv").read_text())))
        for row in table:
            if int(row["trial"]) in trials:
                row["lr"] = "1e+30"
        with (copy.path / "trials.csv").open("w") as file:
            writer = csv.DictWriter(file, table[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)

    best = ranked(copy.read_trials())[0]
    spoil(best.trial)
    done = run(["retrain", copy.path, "--seeds", "1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"No training of {best.name} ended well" in done.stdout
    second = ranked(copy.read_trials())[1]
    tested = copy.read_retrain()["configurations"][0]
    assert (tested["name"], tested["passed_over"]) == (second.name, [best.name])
    said = run(["trials", copy.path], tmp_path).stdout
    assert f"Before it {best.name} was chosen, of which no retraining ended well." in said
    spoil(*(t.trial for t in copy.read_trials()))
    done = run(["retrain", copy.path, "--seeds", "1"], tmp_path)
    assert done.returncode == 1
    assert "more trials may find others: " in done.stderr
    assert copy.read_retrain()["configurations"][0] == tested


def test_an_exported_model_reads_without_hwtune(study, tmp_path):
    part, _ = open_test(load_data("digits"), SplitSpec())
    np.save(tmp_path / "images.npy", part.images)
    copy = shutil.copytree(study[0], tmp_path / "s")
    file = run(["export", copy], tmp_path).stdout.strip()
    assert file == str(copy / "model" / "model.onnx")
    script = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "(answers,) = session.run(None, {'images': numpy.load('images.npy')})\n"
        "assert 'hwtune' not in sys.modules and 'torch' not in sys.modules\n"
        "print(*answers.argmax(1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, file], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    read = np.array(done.stdout.split(), int)
    classifier = load_classifier(copy / "model")
    assert (read == classifier.logits(part.images).argmax(1).numpy()).mean() > 0.97  # bfloat16
    assert (read == part.labels).mean() > 0.8


def test_the_report_answers_and_works_offline(study):
    page = (study[0] / "report.html").read_text(encoding="utf-8")
    assert "How small a network reads 8x8 digits?" in page
    winner = json.loads((study[0] / "retrain.json").read_text())["configurations"][0]
    assert f"{winner['test_accuracy']['mean']:.2%}" in page
    assert f"of the training were in {choose_device(gpu=False).dtype}." in page
    assert '<script src="' not in page
    assert "<link " not in page
    assert len(page) < 10_000_000


def test_tensorboard_shows_distorted_images_and_what_was_confused(study):
    board = EventAccumulator(
        str(study[0] / "tensorboard" / "pictures"), size_guidance={"images": 0}
    )
    board.Reload()
    tags = set(board.Tags()["images"])
    tested = json.loads((study[0] / "retrain.json").read_text())["configurations"]
    winner = tested[0]["name"]
    assert tags == {
        "distorted/the most in the space", f"distorted/{winner}",
        *(f"confusion/{each['name']}" for each in tested),
    }  # fmt: skip
    for tag in tags:
        (image,) = board.Images(tag)
        picture = Image.open(io.BytesIO(image.encoded_image_string))
        assert picture.size == (image.width, image.height)
        assert len(picture.getcolors(1_000_000)) > 10, "something can be seen"


def test_tensorboard_has_every_trial_with_its_hyperparameters(study):
    for row in rows(study, "trials.csv"):
        if row["epochs"] == "0":
            continue
        board = EventAccumulator(str(study[0] / "tensorboard" / f"{int(row['trial']):04d}"))
        board.Reload()
        assert len(board.Scalars("val_accuracy")) == int(row["epochs"])
        assert "_hparams_/session_start_info" in board.summary_metadata


def test_trials_shows_the_leaderboard(study, hwtune):
    shown = json.loads(hwtune("trials", study[0], "--json").stdout)
    accuracies = [t["val_accuracy"] for t in shown if t["state"] != "failed"]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(isinstance(t["config"]["lr"], float) for t in shown)
    assert "needed" in hwtune("trials", study[0]).stdout


def test_retraining_more_adds_to_the_record(study, tmp_path, hwtune):
    copy = shutil.copytree(study[0], tmp_path / "s")
    done = run(["retrain", copy, "--top", 2, "--seeds", 1], tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((copy / "retrain.json").read_text())
    assert len(record["test_openings"]) > len(record["configurations"]) >= 2
    best = json.loads(hwtune("trials", copy, "--json").stdout)[0]
    names = (best["baseline"], f"trial {best['trial']}")
    assert record["configurations"][0]["name"] in names  # the winner stands first


def test_a_cluster_that_does_not_answer_leaves_a_complete_study_as_it_was(study):
    before = about(study)
    words = ["resume", "s", "--trials", 10 * TRIALS, "--address", "127.0.0.1:9"]
    assert_refused(run(words, study[0].parent), "127.0.0.1:9")
    assert about(study) == before


def test_a_report_can_be_made_again(study, hwtune):
    (study[0] / "report.html").unlink()
    assert hwtune("report", study[0]).returncode == 0
    assert (study[0] / "report.html").stat().st_size > 1_000_000


def test_what_diverges_or_does_not_fit_is_recorded_and_the_search_goes_on(tmp_path):
    space = tmp_path / "wild.py"
    space.write_text(
        "from hwtune.space import *\n"
        "SPACE = SearchSpace(question='?', data='digits',\n"
        "    fixed={'epochs': 2, 'optimizer': 'sgd', 'pixel_scale': 'raw'},\n"
        "    search={'lr': choice(1e-5, 1e25), 'filters': choice('4', '4-4-4-4')},\n"
        "    starts={'bad': {'lr': 1e25, 'filters': '4'}, 'good': {'lr': 1e-5, 'filters': '4'}})\n"
    )
    done = run(["search", space, "--trials", 5, "--seeds", 1, "--name", "s"], tmp_path)
    assert done.returncode == 0, done.stderr
    trials = rows((tmp_path / "s", done), "trials.csv")
    reasons = " ".join(row["reason"] for row in trials if row["state"] == "failed")
    assert "diverged at epoch 1" in reasons
    assert "The search ended: the space has no point that was not tried (4)." in done.stdout
    assert "2 configurations not trained, being too large, too slow or impossible" in done.stdout
    loaded = optuna_trials((tmp_path / "s", done))
    assert not [t for t in loaded.trials if t.state == TrialState.RUNNING]
    diverged = [t for t in loaded.trials if "diverged" in t.constraints]
    assert all(t.state == TrialState.PRUNED for t in diverged)
    assert loaded.best_trial.params == {"lr": 1e-5, "filters": "4"}


def test_where_every_trial_failed_the_way_to_others_is_told(tmp_path, hwtune):
    space = tmp_path / "wild.py"
    space.write_text(
        "from hwtune.space import *\n"
        "SPACE = SearchSpace(question='?', data='digits',\n"
        "    fixed={'epochs': 1, 'optimizer': 'sgd', 'pixel_scale': 'raw', 'filters': '4'},\n"
        "    search={'lr': log_uniform(1e24, 1e25)})\n"
    )
    results = tmp_path / "results"  # where `hwtune` looks
    done = run(["search", space, "--trials", 2, "--name", "s"], results)
    assert done.returncode == 1
    assert "Every trial failed, most often so: diverged at epoch 1" in done.stderr
    assert "resume s --trials 4" in done.stderr
    shown = hwtune("trials", "s").stdout
    assert "The study failed. To continue: " in shown
    assert "resume s --trials 4" in shown
    assert "resume s --trials 4</code> goes on" in (results / "s" / "report.html").read_text()


def test_a_study_ends_at_its_target_and_a_higher_one_goes_on_with_what_that_cut_off(tmp_path):
    words = ["search", "digits_cnn", "--target", "0.5", "--epochs", 30, "--parallel", 1]
    done = run([*words, "--seeds", 1, "--name", "s"], tmp_path)
    assert done.returncode == 0, done.stderr
    study = (tmp_path / "s", done)
    (plain,) = rows(study, "trials.csv")
    assert plain["baseline"] == "plain"
    assert float(plain["val_accuracy"]) >= 0.5
    assert plain["reason"].endswith("the target of 0.5 was reached")
    assert int(plain["epochs"]) < 30
    higher = run(["resume", "s", "--target", 1, "--trials", 2], tmp_path)
    assert higher.returncode == 0, higher.stderr
    _, again = rows(study, "trials.csv")
    assert (again["baseline"], again["state"], again["epochs"]) == ("plain", "complete", "30")
    epochs = [[v for k, v in e.items() if k != "trial"] for e in rows(study, "epochs.csv")]
    before = int(plain["epochs"])
    assert len(epochs) == before + 30
    assert epochs[before : 2 * before] == epochs[:before]  # taken over, with the seconds they took
    assert [path.name for path in (tmp_path / "s" / "checkpoints").glob("*.pt")] == ["1.pt"]


def test_several_objectives_have_their_front_in_the_records_and_on_the_page(tmp_path, hwtune):
    words = ["search", "digits_cnn", "--trials", 6, "--epochs", 3, "--seeds", 1, "--name", "s"]
    done = run([*words, "--objective", "val_accuracy", "--objective", "parameters"], tmp_path)
    assert done.returncode == 0, done.stderr
    study = (tmp_path / "s", done)
    scores = {
        int(row["trial"]): (float(row["val_accuracy"]), -int(row["parameters"]))
        for row in rows(study, "trials.csv")
    }
    unbeaten = {
        trial
        for trial, (accuracy, size) in scores.items()
        if not any(a >= accuracy and s >= size and (a, s) != (accuracy, size)
                   for a, s in scores.values())
    }  # fmt: skip
    assert set(about(study)["pareto"]) == unbeaten
    page = (study[0] / "report.html").read_text(encoding="utf-8")
    trials = f"trial{'s'[: len(unbeaten) > 1]} {', '.join(map(str, sorted(unbeaten)))}."
    told = f"Pareto front of val_accuracy and parameters: {trials}"
    shown = hwtune("trials", study[0]).stdout
    assert all(told in text for text in (page, " ".join(done.stdout.split()), shown))


SMALL_CHINESE = """\
from hwtune.space import SearchSpace, choice

SPACE = SearchSpace(
    question="Which rate?",
    data="chinese_mnist",
    search={"lr": choice(0.001, 0.003)},
    fixed={"side": 16, "filters": "4"},
)
"""
TWO_BASELINES = """
from dataclasses import replace

from hwtune.space import load_space

SPACE = load_space("digits_cnn")
wide = {**SPACE.baselines["plain"], "convs_per_stage": 2}
SPACE = replace(SPACE, baselines={"wide": wide, **SPACE.baselines})
"""


@pytest.mark.alone
def test_a_time_budget_is_kept_and_a_longer_one_takes_up_what_it_left_out(tmp_path):
    space = tmp_path / "two_baselines.py"
    space.write_text(TWO_BASELINES)
    words = [
        "search", space, "--time-budget", "30s", "--epochs", 90, "--parallel", 2, "--name", "s",
    ]  # fmt: skip
    done = run([*words, "--seeds", 1], tmp_path)
    assert done.returncode == 0, done.stderr
    study = (tmp_path / "s", done)
    trained = sum(float(row["seconds"]) for row in rows(study, "epochs.csv"))
    assert trained < 2 * 30, "two at once, in a budget of 30 s"
    assert about(study)["seconds"] < 2 * 30, "retraining included"
    trials = rows(study, "trials.csv")
    assert any("time for the search was over" in row["reason"] for row in trials)
    assert "Left out" in done.stdout
    assert [row["baseline"] for row in trials].count("plain") == 1
    assert about(study)["left_out"] == ["wide"]
    assert "Not trained, for lack of time: wide." in (tmp_path / "s" / "report.html").read_text()
    begun = sum(int(row["epochs"]) > 0 for row in trials)
    longer = run(["resume", "s", "--trials", begun + 1], tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert "Left out" not in longer.stdout
    last = rows(study, "trials.csv")[-1]
    assert (last["baseline"], last["state"], last["epochs"]) == ("wide", "complete", "90")


def test_where_the_time_is_short_trials_are(tmp_path):
    space = tmp_path / "long.py"
    long = 'SPACE = replace(SPACE, fixed={**SPACE.fixed, "epochs": 10_000})'
    space.write_text(TWO_BASELINES + long)
    done = run(["search", space, "--time-budget", "1m", "--seeds", 1, "--name", "s"], tmp_path)
    assert done.returncode == 0, done.stderr
    study = (tmp_path / "s", done)
    epochs = about(study)["budget"]["epochs"]
    assert 1 <= epochs < 10_000
    assert re.search(rf"Trials have {epochs} epochs? instead of 10000\b", done.stdout)
    assert max(int(row["epochs"]) for row in rows(study, "trials.csv")) <= epochs
    (winner,) = json.loads((study[0] / "retrain.json").read_text())["configurations"]
    assert winner["config"]["epochs"] == epochs


def test_a_folder_of_ones_own_pictures_is_searched_and_read(tmp_path, monkeypatch, hwtune):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    digits = load_data("digits")
    for label, name in enumerate(("zero", "one", "two")):  # in ink on paper
        (tmp_path / "mine" / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.labels == label][:100]):
            Image.fromarray(255 - image).save(tmp_path / "mine" / name / f"{number}.png")
    assert hwtune("data", "add", "numbers", tmp_path / "mine").returncode == 0
    words = ("search", "digits_cnn", "--data", "numbers", "--trials", 2, "--seeds", 1)
    done = run(words, tmp_path)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "digits_cnn-numbers"
    content = json.loads((study / "study.json").read_text())
    assert content["data"]["classes"] == ["one", "two", "zero"]
    pictures = sorted((tmp_path / "mine").glob("*/1?.png"))
    read = json.loads(hwtune("predict", study, *pictures, "--json").stdout)
    right = [path.parent.name == each["label"] for path, each in zip(pictures, read, strict=True)]
    assert len(right) == 30
    assert sum(right) >= 20


def test_the_cluster_listens_on_loopback_alone(study):
    addresses = study[2]
    assert len(addresses) > 5
    assert {address for address, _ in addresses} <= LOOPBACK


@pytest.mark.slow
def test_one_trial_at_a_time_repeats_a_study_exactly(tmp_path):
    words = ["search", "digits_cnn", "--trials", 13, "--epochs", 1, "--parallel", 1, "--seeds", 1]
    for name in "ab":  # of the trials TPE proposes the last three
        assert run([*words, "--seed", 7, "--name", name], tmp_path).returncode == 0
    studies = [rows((tmp_path / name, None), "epochs.csv") for name in "ab"]
    for row in (row for study in studies for row in study):
        del row["seconds"]
    assert len(studies[0]) == 13
    assert studies[0] == studies[1]
    tested = [json.loads((tmp_path / n / "retrain.json").read_text()) for n in ("a", "b")]
    assert tested[0]["configurations"] == tested[1]["configurations"]


@pytest.mark.slow
def test_without_data_the_main_command_draws_its_own_under_a_banner(tmp_path, hwtune):
    space = tmp_path / "spaces" / "chinese_cnn.py"  # of small networks
    space.parent.mkdir()
    space.write_text(SMALL_CHINESE)
    words = ["search", space, "--trials", 1, "--epochs", 1, "--seeds", 1]
    done = run([*words, "--split", "writer"], tmp_path, offline=True)
    assert done.returncode == 0, done.stderr
    assert "NOT REAL HANDWRITING" in done.stdout
    study = tmp_path / "chinese_cnn-chinese_strokes"
    assert about((study, done))["data"]["name"] == "chinese_strokes"
    assert "not handwriting" in (study / "report.html").read_text(encoding="utf-8")
    again = hwtune("search", "chinese_cnn", "--data", "chinese_mnist")
    assert_refused(again, "data get chinese_mnist")


def test_what_a_complete_study_has_lost_is_made_anew(study, tmp_path, hwtune):
    """As where its process was killed while it wrote the report."""
    copy = shutil.copytree(study[0], tmp_path / "s")
    (copy / "report.html").unlink()
    done = hwtune("resume", copy)
    assert (done.returncode, "made anew" in done.stdout) == (0, True), done.stderr
    folder = StudyFolder(copy)
    record = folder.read_retrain()  # as where a later retraining was killed before its page
    record["test_openings"].append(record["test_openings"][0])
    folder.write_retrain(record)
    assert "made anew" in hwtune("resume", copy).stdout
    assert_refused(hwtune("resume", copy), "is complete")
    before = (copy / "trials.csv").read_bytes()
    (copy / "trials.csv").unlink()
    assert_refused(hwtune("retrain", copy), "trials.csv is gone", "makes it anew")
    assert hwtune("resume", copy).returncode == 0
    assert (copy / "trials.csv").read_bytes() == before
    (copy / "trials.csv").write_text("trial;state\n0;complete\n")
    assert hwtune("resume", copy).returncode == 0
    assert (copy / "trials.csv").read_bytes() == before
    assert_refused(hwtune("resume", copy), "is complete")


def test_a_model_reads_without_its_study(study, tmp_path, hwtune):
    picture = tmp_path / "7.png"
    digits = load_data("digits")
    Image.fromarray(digits.images[7]).save(picture)
    shutil.copytree(study[0] / "model", tmp_path / "mine")
    alone = hwtune("predict", tmp_path / "mine", picture)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == hwtune("predict", study[0], picture).stdout


@pytest.mark.alone
@pytest.mark.slow
def test_a_time_budget_holds_over_a_kill_and_a_longer_one_goes_on(tmp_path):
    words = ("search", "digits_cnn", "--time-budget", "90s", "--seeds", 1, "--name", "s")
    environment = {**os.environ, "HWTUNE_RESULTS": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "hwtune", *map(str, words)], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder, until = StudyFolder(tmp_path / "s"), time.monotonic() + 300
    while not folder.epochs.exists() or len(folder.read_epochs()) < 5:
        assert time.monotonic() < until
        assert process.poll() is None, "too slow a machine for so short a time"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert run(("resume", "s"), tmp_path).returncode == 0
    content = folder.read_study()
    killed, second = (run["seconds"] for run in content["runs"])
    assert killed > 3
    assert content["search_seconds"] > killed, "the time of both runs"
    trials = content["trials"]
    assert run(("resume", "s", "--time-budget", "60s"), tmp_path).returncode == 0
    content = folder.read_study()
    assert content["budget"]["seconds"] == pytest.approx(killed + second + 60, abs=1)
    assert content["trials"] > trials


def test_a_page_that_cannot_be_written_is_named(study, tmp_path, hwtune):
    copy = shutil.copytree(study[0], tmp_path / "s")
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()
    assert_refused(hwtune("report", copy), "report.html cannot be written")
    done = hwtune("compare", copy, study[0], "--page", ".")
    assert_refused(done, "--page . cannot be written")
