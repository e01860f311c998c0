"""The published systems: their sizes, their splits, and the command that trains one."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from hwtune.data import load_data
from hwtune.data.splits import Part, SplitSpec, split_indices
from hwtune.errors import SpaceError
from hwtune.models import measure_cost
from hwtune.pipeline.baseline import published_run
from hwtune.space import load_space
from hwtune.training.device import Fast
from hwtune.training.loop import train_config
from hwtune.training.state import start_training
from tests.conftest import assert_refused

# Parameters; train, validation and test images; epochs; what the authors report.
SYSTEMS = {
    "chinese_cnn": {
        "oafarih": (4_222_831, (12000, 1500, 1500), 80, 0.9948),
        "lazhili8_cnn": (136_143, (13500, 0, 1500), 100, 0.943),
        "lazhili8_cnn_wide": (297_871, (13500, 0, 1500), 100, 0.939),
        "lazhili8_cnn_nopool": (1_979_343, (13500, 0, 1500), 100, 0.887),
    },
    "chinese_resnet": {"lazhili8_resnet": (2_393_679, (13500, 0, 1500), 10, 0.992)},
    "mnist_cnn": {
        "gaurav_base": (2_624_669, (60000, 5000, 5000), 10, 0.9769),
        "gaurav_tuned": (477_738, (60000, 5000, 5000), 15, 0.991),
        "ahed9x_16": (225_034, (54000, 6000, 10000), 100, 0.9910),
        "ahed9x_32": (225_034, (54000, 6000, 10000), 100, 0.9916),
        "ahed9x_64": (225_034, (54000, 6000, 10000), 100, 0.9900),
        "ahed9x_128": (225_034, (54000, 6000, 10000), 100, 0.9881),
    },
    "mnist_m3": {
        "modelm3": (1_124_180, (60000, 0, 10000), 5, 0.99),
        "modelm5": (1_128_180, (60000, 0, 10000), 150, None),
        "modelm7": (2_291_972, (60000, 0, 10000), 150, None),
    },
}
EACH = pytest.mark.parametrize(
    ("space", "name"), [(space, name) for space, names in SYSTEMS.items() for name in names]
)


def as_published(space_name, name):
    space = load_space(space_name)
    published = published_run(space, name)
    return space, published, space.config({**space.baselines[name], **published.values})


@EACH
def test_a_published_system_has_its_parameters_its_split_and_its_length(space, name, real_data):
    parameters, sizes, epochs, headline = SYSTEMS[space][name]
    loaded, published, config = as_published(space, name)
    data = load_data(loaded.data)
    cost = measure_cost(config, classes=len(data.classes), side=config.side or data.side)
    counts = split_indices(data, SplitSpec(**published.split)).counts()
    assert (cost.parameters, tuple(counts.values())) == (parameters, sizes)
    assert (config.epochs, published.headline) == (epochs, headline)


@EACH
def test_a_published_system_trains(space, name):
    """On random images, a few steps."""
    loaded, _, config = as_published(space, name)
    side = 64 if loaded.data == "chinese_mnist" else 28
    config = dataclasses.replace(config, batch_size=4, max_steps=2)
    images = torch.randint(0, 256, (8, side, side), dtype=torch.uint8).numpy()
    part = Part(images, torch.arange(8).numpy() % 5)
    state, batches, watched = start_training(
        config, part, part, classes=15, seed=0, fast=Fast("cpu", bf16=False)
    )
    results = list(train_config(state, batches, watched, config))
    assert len(results) == 1
    assert state.step == 2
    assert math.isfinite(results[0].train_loss)


def test_every_baseline_says_how_it_was_published():
    described = {"chinese_resnet": {"lazhili8_resnet18"}}  # in words alone, it was not run
    for space, names in SYSTEMS.items():
        loaded = load_space(space)
        assert set(loaded.published) == set(names)
        assert set(loaded.baselines) == set(names) | described.get(space, set())


@pytest.mark.slow
def test_a_baseline_is_trained_as_published_and_under_our_protocol(tmp_path):
    environment = {**os.environ, "HWTUNE_RESULTS": str(tmp_path)}
    file = tmp_path / "mine.py"
    file.write_text(SPACE)
    command = [sys.executable, "-m", "hwtune", "retrain", file, "--baseline", "small"]
    for words, folder in (((), "mine-small"), (("--honest",), "mine-small-honest")):
        done = subprocess.run(
            [*command, "--seeds", "2", *words], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "Its authors report 98.00%: a guess." in done.stdout
        about = json.loads((tmp_path / folder / "study.json").read_text())
        assert (about["status"], about["baseline"]["honest"]) == ("complete", bool(words))
        assert about["split"]["counts"]["validation"] == (179 if words else 0)
        tested = json.loads((tmp_path / folder / "retrain.json").read_text())
        assert [c["name"] for c in tested["configurations"]] == ["small"]
        assert tested["configurations"][0]["seeds"] == [0, 1]
        assert tested["configurations"][0]["config"]["epochs"] == 3
        assert len(tested["test_openings"]) == 1
        page = (tmp_path / folder / "report.html").read_text()
        assert "Its authors report 98.00%: a guess." in page
        assert "All trials" not in page
        assert (tmp_path / folder / "model" / "model.safetensors").is_file()
    resumed = subprocess.run(
        [sys.executable, "-m", "hwtune", "resume", "mine-small"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert_refused(resumed, "is complete", "retrain mine --baseline small")


SPACE = """
from hwtune.space import Published, SearchSpace, choice

SPACE = SearchSpace(
    question="?",
    data="digits",
    fixed={"filters": "8", "epochs": 2},
    search={"pool": choice("max", "none")},
    baselines={"small": {"pool": "max"}},
    published={
        "small": Published(
            headline=0.98, really="a guess", values={"epochs": 3}, split={"validation": 0.0}
        )
    },
)
"""


@pytest.mark.slow
def test_a_baseline_that_was_killed_is_taken_up_again(tmp_path):
    environment = {**os.environ, "HWTUNE_RESULTS": str(tmp_path)}
    file = tmp_path / "mine.py"
    file.write_text(SPACE)
    hwtune = [sys.executable, "-m", "hwtune"]
    process = subprocess.Popen(
        [*hwtune, "retrain", file, "--baseline", "small", "--epochs", "300", "--seeds", "2"],
        env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "mine-small"
    deadline = time.monotonic() + 120
    while len(list(folder.glob("retraining/*.pt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    words = {"capture_output": True, "text": True, "env": environment}
    assert_refused(
        subprocess.run([*hwtune, "resume", "mine-small", "--trials", "3"], **words), "no search"
    )
    resumed = subprocess.run([*hwtune, "resume", "mine-small"], **words)
    assert resumed.returncode == 0, resumed.stderr
    about = json.loads((folder / "study.json").read_text())
    assert [run["status"] for run in about["runs"]] == ["killed", "complete"]
    assert about["runs"][0]["seconds"] > 0
    tested = json.loads((folder / "retrain.json").read_text())["configurations"][0]
    assert (tested["seeds"], tested["config"]["epochs"]) == ([0, 1], 300)
    assert not (folder / "retraining").exists()


def test_an_unknown_baseline_is_refused():
    with pytest.raises(SpaceError, match="no baseline or start 'resnet50'; it has plain"):
        published_run(load_space("digits_cnn"), "resnet50")


def test_a_start_is_retrained_under_our_protocol_alone():
    space = load_space("chinese_cnn")
    assert published_run(space, "vgg", honest=True).headline is None
    with pytest.raises(SpaceError, match="how 'vgg' was published; add --honest"):
        published_run(space, "vgg")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("digits_cnn", "--baseline", "x"), "no baseline or start 'x'"),
        (("digits_cnn", "--honest"), "--honest belongs to --baseline"),
        (
            ("digits_cnn", "--baseline", "plain", "--honest", "--address", "127.0.0.1:9"),
            "no Ray cluster",
        ),
        (("digits_cnn", "--baseline", "plain"), "how 'plain' was published; add --honest"),
        (("digits_cnn", "--split", "writer"), "--split belongs to --baseline"),
        (("digits_cnn", "--baseline", "plain", "--honest", "--address", "host"), "names no port"),
        (("mnist_m3", "--baseline", "modelm3", "--split-seed", "1"), "belong to --honest"),
        (("mnist_m3", "--baseline", "modelm3", "--data", "digits"), "no pixel of a 8x8 image"),
        (("mnist_cnn", "--baseline", "gaurav_base", "--data", "digits"), "no test part of its own"),
    ],
)
def test_a_wrong_wish_leaves_nothing_behind(hwtune, tmp_path, words, says):
    assert_refused(hwtune("retrain", *words), says)
    assert not list((tmp_path / "results").glob("*"))
