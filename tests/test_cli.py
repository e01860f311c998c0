"""What the command line says to wrong input, and its small commands."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image
from typer.main import get_command

from hwtune.cli import app
from hwtune.cli.tables import show_table
from hwtune.data import load_data
from hwtune.data.splits import SplitSpec
from hwtune.hardware import hardware
from hwtune.results import create_study
from hwtune.search.budget import Retraining
from hwtune.search.settings import Settings
from hwtune.space import load_space
from hwtune.study_folder import StudyFolder
from scripts.kept import kept
from tests.conftest import assert_refused
from tests.data.archives import members, write_zip

ROOT = Path(__file__).parent.parent
COMMAND = get_command(app)
QUICK = ("--trials", 1, "--epochs", 1, "--parallel", 1)


def study_of(space):
    """Return what every study says of itself."""
    return {
        "format": 1,
        "study": "mine",
        "status": "interrupted",
        "started": "2026-01-01T00:00:00Z",
        "command": "hwtune search",
        "space": load_space(space).to_json(),
        "data": load_data("digits").describe(),
        "split": SplitSpec().describe({"train": 1, "validation": 1, "test": 1}),
        "hardware": hardware(),
        "versions": {},
        "seconds": None,
        "budget": {"trials": 3, "epochs": 1, "seconds": None, "target": None},
        **Settings().describe(),
        "retraining": Retraining().describe(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "nowhere_cnn"), ("Unknown space 'nowhere_cnn'", "digits_cnn")),
        (("search", "digts_cnn"), ("Unknown space 'digts_cnn' (did you mean 'digits_cnn'?)",)),
        (("search", "digits_cnn", "--objective", "acuracy"), ("(did you mean 'val_accuracy'?)",)),
        (("search", "digits_cnn", "--data", "emoji"), ("Unknown data set 'emoji'", "mnist")),
        (("search", "digits_cnn", "--data", "mnist"), ("data get mnist",)),
        (("search", "digits_cnn", "--split", "writer"), ("does not know its writers",)),
        (("search", "digits_cnn", "--split", "both"), ("'both'", "writer")),
        (
            ("search", "digits_cnn", "--trials", 0),
            ("--trials", "'0' is not a whole number of at least 1"),
        ),
        (
            ("search", "digits_cnn", "--epochs", 0),
            ("--epochs", "'0' is not a whole number of at least 1"),
        ),
        (
            ("search", "mnist_m3", "--data", "digits", "--epochs", 300),
            ("--epochs 300: mnist_m3 ends each training with its max_steps, in epoch 200",),
        ),
        (
            ("search", "digits_cnn", "--parallel", 0),
            ("--parallel", "'0' is not a whole number of at least 1"),
        ),
        (("search", "digits_cnn", "--seed", "x"), ("--seed", "'x' is not a whole number")),
        (("search", "digits_cnn", "--time-budget", "soon"), ("'soon'", "30m")),
        (("search", "digits_cnn", "--time-budget", "0m"), ("'0m'",)),
        (("search", "digits_cnn", "--name", "a/b"), ("plain folder name",)),
        (("search", "digits_cnn", "--lr", 3), ("--lr",)),
        (("retrain", "absent"), ("Unknown study 'absent'",)),
        (("report", "absent"), ("Unknown study 'absent'",)),
        (("trials", "absent"), ("Unknown study 'absent'",)),
        (("predict", "absent", "a.jpg"), ("Unknown study 'absent'",)),
        (("export", "absent"), ("Unknown study 'absent'",)),
        (("trials", "absent", "--json", "--csv"), ("--json and --csv are two formats",)),
        (("search", "digits_cnn", "--folds", "4"), ("--folds 4 belongs to --finalists",)),
        (("spaces", "absent.py"), ("There is no file absent.py",)),
        (("spaces", "README.md"), ("README.md is not a .py file",)),
        (("export", "absent", "--format", "pickle"), ("'pickle'", "'onnx'")),
        (("spaces", "absent"), ("Unknown space 'absent'",)),
        (("data", "get", "emoji"), ("Unknown data set 'emoji'",)),
        (("data", "check", "chinese_mnist"), ("data get chinese_mnist",)),
        (("data", "add", "chinese_mnist", "absent.zip"), ("does not exist",)),
        (("data", "add", "digits", "a.zip"), ("built in",)),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_bad_input_gets_one_line_and_leaves_nothing(hwtune, tmp_path, words, said):
    assert_refused(hwtune(*words), *said)
    assert not (tmp_path / "results").exists()


def test_a_bad_space_file_is_refused(hwtune, tmp_path):
    file = tmp_path / "mine.py"
    start = "from hwtune.space import *\nSPACE = SearchSpace(question='?', data='digits', "
    for text, said in (
        ("search={'depth': choice(1, 2)})", "Unknown hyperparameter 'depth'"),
        ("search={'lr': choice(.1)}, baselines={'b': {'lr': .2}})", "lies outside its space"),
        ("search={'pool': choice('max')}, fixed={'filters': '8-8-8-8'})", "no pixel"),
    ):
        file.write_text(start + text)
        assert_refused(hwtune("search", file, *QUICK), said)
    assert not (tmp_path / "results").exists()


def test_a_name_that_exists_is_refused(hwtune, tmp_path):
    create_study(tmp_path / "results", "mine", "digits_cnn")
    assert_refused(hwtune("search", "digits_cnn", "--name", "mine", *QUICK), "exists already")


def test_results_that_cannot_be_written_are_named(hwtune, tmp_path):
    (tmp_path / "file").write_text("")
    done = hwtune("search", "digits_cnn", "--results", tmp_path / "file", *QUICK)
    assert_refused(done, str(tmp_path / "file"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_results_folder_on_a_file_system_that_refuses_is_named(hwtune):
    done = hwtune("search", "digits_cnn", "--results", "/proc/results", *QUICK)
    assert_refused(done, "/proc/results", "cannot be written")


def test_a_study_that_is_being_written_is_refused(hwtune, tmp_path):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    folder.write_study(study_of("digits_cnn"))
    with FileLock(folder.path / ".lock"):
        assert_refused(hwtune("retrain", "mine"), "another process")


def test_a_bad_archive_is_refused(hwtune, tmp_path, monkeypatch):
    (tmp_path / "chinese-mnist.zip").write_bytes(b"not a zip")
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path))
    assert_refused(hwtune("search", "chinese_cnn", *QUICK), "is not a zip archive")
    assert not (tmp_path / "results").exists()


SMALL = {
    "name": "small", "honest": True, "epochs": 1, "seeds": 1, "headline": None, "really": "",
}  # fmt: skip


def test_a_baselines_training_has_no_best_trial_to_retrain(hwtune, tmp_path):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    command = "hwtune retrain digits_cnn --baseline small"
    about = {**study_of("digits_cnn"), "baseline": SMALL, "command": command}
    folder.write_study(about)
    refused = hwtune("retrain", "mine")
    assert_refused(refused, "python -m hwtune resume mine", f"python -m {command}")


def test_a_table_shows_brackets_as_they_are(capsys):
    show_table(("trial", "why"), [("0", "[enforce fail at a.cpp] [/tmp/x] :smile:")])
    assert "[enforce fail at a.cpp] [/tmp/x] :smile:" in capsys.readouterr().out


def test_nothing_from_a_file_commands_the_terminal(hwtune, tmp_path, capsys):
    evil = "\x1b]52;c;YQ==\x07 \u202e"
    show_table((evil, "why"), [("0", evil)])
    assert capsys.readouterr().out.count(r"\x1b]52;c;YQ==\x07 \u202e") == 1
    assert_refused(hwtune("report", f"\x1b[2J{evil}"), r"\x1b[2J", r"\u202e")


@pytest.mark.parametrize("command", ["trials", "report", "retrain", "resume"])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("study.json", {}, "it has no format"),
        ("study.json", {"format": "1"}, "format is '1'"),
        ("study.json", {"data": {"name": "digits"}}, "it has no data.sha256"),
        ("study.json", {"data": load_data("digits").describe(), "space": {}}, "no space.question"),
        ("retrain.json", {"configurations": []}, "it has no test_openings"),
        (
            "retrain.json", {"configurations": [{"name": 3}], "test_openings": []},
            "it has no configurations[0].per_class",
        ),
    ],
)  # fmt: skip
def test_damaged_files_of_a_study_are_named(hwtune, tmp_path, command, name, content, said):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    whole = study_of("digits_cnn")
    folder.write_study(whole)
    if name == "retrain.json":
        folder.write_retrain(content)
    else:
        folder.write_study({**whole, **content} if "data" in content else content)
    assert_refused(hwtune(command, "mine"), f"mine/{name} is damaged", said)


@pytest.mark.parametrize("command", ["spaces chinese_cnn", "spaces --json", "--version", "studies"])
def test_what_nobody_reads_ends_a_command_without_a_traceback(command):
    """As behind `| head`, which has left."""
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "hwtune", *command.split()]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_of_many_trials_the_best_are_shown(hwtune, monkeypatch):
    monkeypatch.setattr("hwtune.cli.views.MOST_TRIALS", 5)
    study = ROOT / "results" / "chinese_cnn-hour"
    few, every = hwtune("trials", study).stdout, hwtune("trials", study, "--all").stdout
    assert "And 35 trials more: --all shows them, too." in few
    assert "more: --all" not in every
    assert len(every.splitlines()) > len(few.splitlines()) + 30


def test_every_committed_study_is_whole():
    studies = [path.parent for path in kept("study.json")]
    assert len(studies) > 20
    for path in studies:
        StudyFolder(path).check()


def test_homes_in_the_environment_are_found(hwtune, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HWTUNE_RESULTS", "~/studies")
    create_study(tmp_path / "studies", "mine", "s").write_study(study_of("digits_cnn"))
    assert_refused(hwtune("predict", "mine", "a.jpg"), "holds no model")
    for variable, words in (
        ("HWTUNE_DATA", ("data", "list")), ("HWTUNE_RESULTS", ("trials", "mine")),
    ):  # fmt: skip
        monkeypatch.setenv(variable, "~nobody-of-that-name/x")
        assert_refused(hwtune(*words), "'~nobody-of-that-name/x' names no folder")


def test_a_trial_is_shown_in_full(hwtune, tmp_path):
    study = ROOT / "results" / "chinese_cnn-trials"
    shown = hwtune("trials", study, 5).stdout
    assert shown.startswith("Trial 5 (vgg_strong): complete\n")
    assert re.search(r"^ *rotation +18\.0 *$", shown, re.MULTILINE)
    assert re.search(r"^ *epochs +4 \(fixed\) *$", shown, re.MULTILINE)
    assert len(re.findall(r"^ *\d+(?: best)? +\d\.\d{4} ", shown, re.MULTILINE)) == 4
    said = re.search(r"starts=(.*)", shown)[1]
    assert {"vgg_strong": next(iter(ast.literal_eval(said).values()))}.items() <= (
        load_space("chinese_cnn").starts.items()
    )
    assert [each["trial"] for each in json.loads(hwtune("trials", study, 5, "--json").stdout)] == [
        5
    ]
    assert hwtune("trials", study, 5, "--csv").stdout.count("\n") == 2
    for number in (99, 5_000_000_000):
        found = hwtune("trials", study, number)
        assert_refused(found, f"no trial {number}, or it repeated another")
    assert_refused(hwtune("trials", study, "best"), "best")


def test_a_study_without_trials_is_refused(hwtune, tmp_path):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    folder.write_study(study_of("digits_cnn"))
    assert_refused(hwtune("retrain", "mine"), "no trained trial")


def test_a_study_without_a_model_is_refused(hwtune, tmp_path):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    folder.write_study(study_of("digits_cnn"))
    assert_refused(hwtune("predict", "mine", "a.jpg"), "holds no model")
    assert_refused(hwtune("export", "mine"), "holds no model")


def commands(group, *before):
    """Yield the words of every command below a group, and the command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield [*before, name], command


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands(COMMAND)]
)
def test_every_command_has_help_with_an_example(hwtune, words, command):
    done = hwtune(*words, "--help")
    assert done.returncode == 0
    assert f"python -m hwtune {' '.join(words)}" in done.stdout
    assert all(parameter.help for parameter in command.params)


def test_a_study_whose_sampler_is_not_installed_is_left_as_it_is(hwtune, tmp_path, monkeypatch):
    folder = create_study(tmp_path / "results", "mine", "digits_cnn")
    settings = Settings(sampler="cmaes").describe()
    about = {**study_of("digits_cnn"), **settings, "status": "complete", "runs": []}
    folder.write_study(about)
    folder.journal.touch()
    before = (folder.path / "study.json").read_bytes()
    monkeypatch.setattr("hwtune.search.samplers.find_spec", lambda _: None)
    assert_refused(hwtune("resume", "mine", "--trials", 9), "cmaes", "python -m pip install cmaes")
    assert (folder.path / "study.json").read_bytes() == before


def test_studies_are_listed_the_newest_first(hwtune, tmp_path):
    results = tmp_path / "results"
    assert "No study in" in hwtune("studies").stdout
    shutil.copytree(ROOT / "results" / "chinese_fast", results / "fast")
    newer = {**study_of("digits_cnn"), "started": "2099-01-01T00:00:00Z"}
    create_study(results, "mine", "digits_cnn").write_study(newer)
    listed = json.loads(hwtune("studies", "--json").stdout)
    assert [row["study"] for row in listed] == ["mine", "fast"]
    assert listed[0]["tested"] is listed[0]["winner"] is None
    assert listed[1]["tested"] > 0.99
    shown = hwtune("studies")
    assert re.search(r"mine +2099-01-01 +digits +\S+ +- ", shown.stdout)
    assert f"{listed[1]['tested']:.2%}" in shown.stdout
    (results / "mine" / "study.json").write_text("{")
    shown = hwtune("studies")
    assert shown.returncode == 2
    assert "mine" in shown.stderr
    assert "fast" in shown.stdout


def test_the_version_is_the_packages(hwtune):
    from importlib.metadata import version

    assert hwtune("--version").stdout == f"hwtune {version('hwtune')}\n"


def test_spaces_are_listed_and_shown(hwtune):
    listed = json.loads(hwtune("spaces", "--json").stdout)
    assert {"chinese_cnn", "digits_cnn"} <= {row["space"] for row in listed}
    shown = json.loads(hwtune("spaces", "chinese_cnn", "--json").stdout)
    counts = {point["name"]: point["parameters"] for point in shown["points"]}
    assert (counts["oafarih"], counts["lazhili8_cnn"]) == (4_222_831, 136_143)
    assert "4,222,831" in hwtune("spaces", "chinese_cnn").stdout


def test_a_corner_that_makes_no_network_has_no_parameters(hwtune, tmp_path):
    space = tmp_path / "deep.py"
    space.write_text(
        "from hwtune.space import SearchSpace, choice\n"
        "SPACE = SearchSpace(question='?', data='digits',"
        " search={'filters': choice('4', '4-4-4-4-4')})\n"
    )
    points = json.loads(hwtune("spaces", space, "--json").stdout)["points"]
    assert points[1]["parameters"] is points[1]["macs"] is None
    assert re.search(r"largest corner +- +- +no: ", hwtune("spaces", space).stdout)


def test_data_is_added_checked_and_listed(hwtune, tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    archive = write_zip(tmp_path / "a.zip", members())
    assert hwtune("data", "add", "chinese_mnist", archive).returncode == 0
    checked = json.loads(hwtune("data", "check", "chinese_mnist", "--json").stdout)
    assert (checked["images"], checked["writers"]) == (150, 1)
    assert checked["per_class"] == [10] * 15
    assert "10 images of a class" in hwtune("data", "check", "chinese_mnist").stdout
    listed = json.loads(hwtune("data", "list", "--json").stdout)
    at_hand = {row["name"] for row in listed if row["at_hand"]}
    assert at_hand == {"chinese_mnist", "chinese_strokes", "digits"}


def test_pictures_of_ones_own_are_added_with_a_word_on_what_was_taken(
    hwtune, tmp_path, monkeypatch
):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    for name in ("a", "b"):
        for writer in range(6):
            (tmp_path / "mine" / name / str(writer)).mkdir(parents=True)
            for number in range(2):
                path = tmp_path / "mine" / name / str(writer) / f"{number}.png"
                Image.new("L", (8, 8)).save(path)
    (tmp_path / "mine" / "a" / "film.mov").write_text("")
    said = hwtune("data", "add", "letters", tmp_path / "mine").stdout
    assert "24 images 8x8 by 6 writers, 2 classes: a, b" in said
    assert "Left out, being no pictures: 1 file (.mov)." in said
    assert "23 images of them equal another; 12 pairs of equal images under two labels" in said
    assert "(a/0/0.png and b/0/0.png, for one): one of these is wrong" in said
    assert "hwtune search chinese_cnn --data letters --split writer" in said
    assert "By writer 1 of 6 would be tested, and so few tell little of others" in said
    folder = hwtune("search", "chinese_cnn", "--data", tmp_path / "mine")
    assert_refused(folder, "is a folder; make it a data set", "data add mine ")
    listed = json.loads(hwtune("data", "list", "--json").stdout)
    assert {row["name"]: row["at_hand"] for row in listed}["letters"]


def test_what_a_program_reads_is_utf_8_whatever_the_terminal_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path))
    write_zip(tmp_path / "chinese-mnist.zip", members())
    command = [sys.executable, "-m", "hwtune", "data", "check", "chinese_mnist"]
    surroundings = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    plain, told = (
        subprocess.run([*command, *options], env=surroundings, capture_output=True, check=True)
        for options in ((), ("--json",))
    )
    assert b"classes: ?, ?" in plain.stdout
    assert json.loads(told.stdout.decode("utf-8"))["classes"][0] == "零"


def test_a_name_that_is_no_text_ends_no_table(tmp_path):
    """As of a zip in another encoding; a terminal shows "?" for it, too."""
    script = (
        "import sys; from hwtune.cli.options import for_programs;"
        " sys.stdout.reconfigure(errors='replace'); for_programs(True); print('\\udcff')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "?\n")


def test_where_nobody_listens_nothing_breaks(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"{sys.executable} -m hwtune"
    closed, table, deaf, removed = (
        subprocess.run(["sh", "-c", line], cwd=gone, capture_output=True, text=True)
        for line in (
            f"{words} --version >&-", f"{words} spaces >&-", f"{words} trials absent 2>&-",
            f"rmdir {gone}; {words} studies",
        )
    )  # fmt: skip
    for done in (closed, table):
        assert (done.returncode, done.stderr) == (0, "")
    assert (deaf.returncode, deaf.stdout) == (2, "")
    assert_refused(removed, "The working folder was removed; go to another (cd)")


def test_data_without_permission_to_copy_is_refused(hwtune, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file")
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    archive = write_zip(tmp_path / "a.zip", members())
    done = hwtune("data", "add", "chinese_mnist", archive)
    assert_refused(done, "cannot be written")


def test_the_installed_command_is_there():
    from pathlib import Path

    assert os.access(Path(sys.executable).parent / "hwtune", os.X_OK)


def test_baselines_for_which_other_images_are_too_small_are_left_out(hwtune):
    done = hwtune("search", "mnist_cnn", "--data", "digits", "--mirror", "nowhere:there")
    assert (
        "Left out: ahed9x_128, ahed9x_64, ahed9x_32, ahed9x_16 (images of 8x8 pixels are too "
        in done.stdout
    )
    assert_refused(done, "nowhere:there")  # what comes next


def test_a_reference_study_without_its_journal_cannot_go_on_and_is_left_as_it_is(hwtune, tmp_path):
    study = tmp_path / "results" / "chinese_cnn-random"
    shutil.copytree(ROOT / "results" / "chinese_cnn-random", study)
    before = {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()}
    for words in ([], ["--trials", 90]):
        assert_refused(hwtune("resume", "chinese_cnn-random", *words), "no optuna.journal")
    after = {path.name: path.read_bytes() for path in study.iterdir() if path.name in before}
    assert after == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--objective", "speed"], ["'speed'", "val_accuracy"]),
        (["--objective", "parameters"], ["'parameters'", "--objective val_accuracy"]),
        (["--objective", "val_accuracy", "--objective", "val_accuracy"], ["twice"]),
        (["--brackets", "2", "--scheduler", "median"], ["--brackets 2", "median"]),
        (["--sampler", "cmaes", "--objective", "val_accuracy", "--objective", "val_loss"],
         ["'cmaes'", "one objective"]),
        (["--scheduler", "median", "--objective", "val_accuracy", "--objective", "parameters"],
         ["'median'", "one objective"]),
        (["--target", "99.8"], ["99.8", "0.998"]),
        (["--disk-limit", "much"], ["much", "500MB"]),
        (["--gpus-per-trial", "2"], ["2", "0.25"]),
        (["--sampler", "best"], ["best"]),
        (["--mirror", "nowhere://x"], ["nowhere://x", "s3://"]),
        (["--mirror", ""], ["''", "s3://"]),
        (["--brackets", "9"], ["--brackets 9", "rungs"]),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_named_and_leave_nothing_behind(hwtune, tmp_path, words, named):
    assert_refused(hwtune("search", "digits_cnn", *words), *named)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "extra", [("--folds", 4), ("--finalists", 3), ("--top", 2), ("--baselines",)]
)
def test_what_chooses_within_a_study_does_not_go_with_a_baseline(hwtune, extra):
    done = hwtune("retrain", "digits_cnn", "--baseline", "plain", *extra)
    assert_refused(done, "leave them out", "--baseline")
