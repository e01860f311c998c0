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

from hwtune.config import TrialConfig
from hwtune.data import load_data
from hwtune.data.splits import Part, SplitSpec, search_split, split_indices
from hwtune.errors import OptionError, SpaceError
from hwtune.models import measure_cost
from hwtune.pipeline.baseline import published_run, published_split
from hwtune.space import Published, SearchSpace, choice, load_space
from hwtune.training.device import Fast, cpu_has_bf16
from hwtune.training.loop import train_config
from hwtune.training.state import start_training
from scripts.bench.faults import PATIENCE
from tests.conftest import assert_refused

# Parameters; train, validation and test images; epochs; what the authors report.
SYSTEMS = {
    "chinese_cnn": {
        "oafarih": (4_222_831, (12000, 1500, 1500), 80, 0.9948),
        "lazhili8_cnn": (136_143, (13500, 0, 1500), 100, 0.943),
        "lazhili8_cnn_wide": (297_871, (13500, 0, 1500), 100, 0.939),
        "lazhili8_cnn_nopool": (1_979_343, (13500, 0, 1500), 100, 0.887),
    },
    "chinese_resnet": {
        "lazhili8_resnet": (2_393_679, (13500, 0, 1500), 10, 0.992),
        "lazhili8_resnet18": (11_177_935, (13500, 0, 1500), 10, None),
    },
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
# The recipes, as far as they differ from TrialConfig's defaults.
LAZHILI8_CNN = {
    "side": 64, "pixel_scale": "raw", "filters": "16-32", "kernel": "5", "optimizer": "sgd",
    "lr": 1e-5, "epochs": 100,
}  # fmt: skip
LAZHILI8_RESNET = {
    "side": 64, "pixel_scale": "raw", "model": "resnet", "strides": "1", "stem_stride": 3,
    "lr": 1e-5, "epochs": 10,
}  # fmt: skip
GAURAV = {
    "rotation": 15.0, "translation": 0.1, "scaling": 0.1, "filters": "8-16", "activation": "none",
    "spatial_dropout": "0.4-0.2", "batch_size": 32,
}  # fmt: skip
AHED9X = {
    "filters": "32-64", "padding": "none", "hidden": "128", "init": "glorot", "eps": 1e-7,
    "lr_schedule": "plateau", "lr_decay": 0.5, "lr_patience": 5, "early_stop": 10, "epochs": 100,
}  # fmt: skip
AN = {
    "padding": "none", "conv_bias": False, "norm": "before", "pool": "none", "output_norm": True,
}  # fmt: skip
AN_ORIGINAL = {
    **AN, "pixel_scale": "symmetric", "rotation": 20.0, "translation": 0.2, "batch_size": 120,
    "lr_schedule": "exponential", "lr_decay": 0.98, "ema": 0.999, "epochs": 150,
}  # fmt: skip
RECIPES = {
    "oafarih": {
        "side": 64, "pixel_scale": "symmetric", "filters": "64-32", "norm": "after",
        "hidden": "512", "dropout": "0.4", "hidden_norm": True, "weight_decay": 1e-4,
        "lr_schedule": "onecycle", "softmax": True, "clip_value": 0.1, "epochs": 80,
    },
    "lazhili8_cnn": LAZHILI8_CNN,
    "lazhili8_cnn_wide": {**LAZHILI8_CNN, "filters": "32-64"},
    "lazhili8_cnn_nopool": {**LAZHILI8_CNN, "pool": "none"},
    "lazhili8_resnet": {**LAZHILI8_RESNET, "filters": "32-64-128-256-256"},
    "lazhili8_resnet18": {**LAZHILI8_RESNET, "filters": "resnet18"},
    "gaurav_base": {
        **GAURAV, "pool": "max-none", "hidden": "784-196-49", "dropout": "0.6-0.3-0.15",
        "epochs": 10,
    },
    "gaurav_tuned": {
        **GAURAV, "pixel_scale": "symmetric", "pool": "avg-max", "hidden": "512-128-64",
        "dropout": "0.5-0.3-0.15", "epochs": 15,
    },
    **{f"ahed9x_{size}": {**AHED9X, "batch_size": size} for size in (16, 32, 64, 128)},
    "modelm3": {
        **AN, "pixel_scale": "raw", "filters": "32-48-64-80-96-112-128-144-160-176",
        "batch_size": 256, "max_steps": 1000, "epochs": 5,
    },
    "modelm5": {**AN_ORIGINAL, "filters": "32-64-96-128-160", "kernel": "5"},
    "modelm7": {**AN_ORIGINAL, "filters": "48-96-144-192", "kernel": "7"},
}  # fmt: skip
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
    cost = measure_cost(config, classes=len(data.classes), side=data.side)
    counts = split_indices(data, SplitSpec(**published.split)).counts()
    assert (cost.parameters, tuple(counts.values())) == (parameters, sizes)
    assert (config.epochs, published.headline) == (epochs, headline)


@EACH
def test_a_published_system_has_its_recipe(space, name):
    assert as_published(space, name)[2] == TrialConfig(**RECIPES[name])


@pytest.mark.slow
@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bfloat16, and takes minutes for it")
@EACH
def test_a_published_system_has_the_same_loss_in_bf16_within_a_percent(space, name, digits):
    """Over four steps; within five percent behind a batch norm of the logits."""
    _, _, config = as_published(space, name)
    config = dataclasses.replace(
        config, side=config.side or 28, epochs=1, max_steps=0, batch_size=min(config.batch_size, 32)
    )
    few = search_split(digits, SplitSpec()).part(slice(128))
    losses = []
    for bf16 in (True, False):
        state, batches, _ = start_training(
            config, few, None, classes=10, seed=0, fast=Fast("cpu", bf16=bf16)
        )
        losses += [result.train_loss for result in train_config(state, batches, None, config)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05 if config.output_norm else 0.01)


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
    for space, names in SYSTEMS.items():
        loaded = load_space(space)
        assert set(loaded.published) == set(loaded.baselines) == set(names)


def test_the_authors_split_can_be_drawn_anew(digits):
    drawn = Published(headline=None, really="", values={}, split={"validation": 0.0})
    assert published_split(drawn, digits, seed=0) == SplitSpec(validation=0.0)
    assert published_split(drawn, digits, seed=3) == SplitSpec(validation=0.0, seed=3)
    third = dataclasses.replace(drawn, split={"seed": 3})
    assert published_split(third, digits, seed=3) == SplitSpec(seed=3)
    ordered = dataclasses.replace(drawn, split={"kind": "ordered"})
    own_test = dataclasses.replace(digits, test_from=1500)
    assert published_split(ordered, own_test, seed=0) == SplitSpec(kind="ordered")
    unknown = dataclasses.replace(drawn, split={"seeed": 3})
    with pytest.raises(SpaceError, match="published split {'seeed': 3} is none"):
        published_split(unknown, digits, seed=0)
    with pytest.raises(OptionError, match="--split-seed 3: the authors' own split has nothing"):
        published_split(ordered, own_test, seed=3)


def test_what_was_published_without_a_test_part_is_not_trained_for_nothing(hwtune, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from hwtune.space import Published, SearchSpace, choice\n"
        "SPACE = SearchSpace(question='?', data='digits', search={'lr': choice(0.1, 0.01)},\n"
        "    baselines={'a': {'lr': 0.1}}, published={'a': Published(headline=None, really='',\n"
        "        values={'epochs': 1}, split={'kind': 'random', 'test': 0.0})})\n"
    )
    refused = hwtune("retrain", tmp_path / "mine.py", "--baseline", "a")
    assert_refused(refused, "published with no test part")
    assert not list((tmp_path / "results").glob("*"))


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
    assert_refused(resumed, "is complete", "give another name to", "--baseline small --seeds 2")
    file.write_text(SPACE.replace('"epochs": 2', '"epochs": 2, "early_stop": 1'))
    blind = subprocess.run(
        [*command, "--name", "blind"], capture_output=True, text=True, env=environment
    )
    assert_refused(blind, "small of mine watches validation images", "give the split a validation")
    assert not (tmp_path / "blind").exists()


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
        [*hwtune, "retrain", file, "--baseline", "small", "--epochs", "150", "--seeds", "2",
         "--parallel", "3"],
        env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "mine-small"
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("retraining/[!.]*.pt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    words = {"capture_output": True, "text": True, "env": environment}
    for option in (["--trials", "3"], ["--mirror", "none"]):
        refused = subprocess.run([*hwtune, "resume", "mine-small", *option], **words)
        assert_refused(refused, "is not a search")
    resumed = subprocess.run([*hwtune, "resume", "mine-small"], **words)
    assert resumed.returncode == 0, resumed.stderr
    about = json.loads((folder / "study.json").read_text())
    assert [run["status"] for run in about["runs"]] == ["killed", "complete"]
    assert about["runs"][0]["seconds"] > 0
    assert about["hardware"]["parallel"] == 3  # as the first command said
    tested = json.loads((folder / "retrain.json").read_text())["configurations"][0]
    assert (tested["seeds"], tested["config"]["epochs"]) == ([0, 1], 150)
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
        (("digits_cnn", "--baseline", "plain", "--mirror", "file:///x"), "--mirror is of searches"),
        (("digits_cnn", "--split", "writer"), "--split belongs to --baseline"),
        (("digits_cnn", "--baseline", "plain", "--honest", "--address", "host"), "names no port"),
        (("mnist_m3", "--baseline", "modelm3", "--split", "writer"), "writer belongs to --honest"),
        (("mnist_m3", "--baseline", "modelm3", "--data", "digits"), "no pixel of a 8x8 image"),
        (("mnist_cnn", "--baseline", "gaurav_base", "--data", "digits"), "no test part of its own"),
    ],
)
def test_a_wrong_wish_leaves_nothing_behind(hwtune, tmp_path, words, says):
    assert_refused(hwtune("retrain", *words), says)
    assert not list((tmp_path / "results").glob("*"))


@pytest.mark.parametrize("headline", [97, "0.97", True])
def test_what_authors_report_is_an_accuracy(headline):
    space = SearchSpace(
        question="?", data="digits", search={"lr": choice(0.1)}, baselines={"old": {"lr": 0.1}},
        published={"old": Published(headline=headline, really="", values={}, split={})},
    )  # fmt: skip
    with pytest.raises(SpaceError, match="which is not an accuracy"):
        published_run(space, "old")
