"""docs/notebooks.md, run in a real Jupyter kernel."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import hwtune
from hwtune.data.photos import read_image
from hwtune.errors import HwtuneError, SpaceError, StudyError
from hwtune.results import create_study
from hwtune.space import space_source
from hwtune.study import Study, called_with
from hwtune.study_folder import StudyFolder

PAGE = (Path(__file__).parent.parent / "docs" / "notebooks.md").read_text(encoding="utf-8")
CELLS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's client
def test_the_page_runs_in_a_kernel_and_shows_tables_and_plots(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in CELLS])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.outputs
        if output["output_type"] in ("execute_result", "display_data")
    ]
    pages = [each.get("text/html", "") for each in shown]
    assert "How small a network reads 8x8 digits?" in pages[0]
    assert "of 179 unseen images of digits correctly" in pages[1]
    assert sum("<table" in page for page in pages) >= 5
    assert any("application/vnd.plotly.v1+json" in each for each in shown)
    assert any("reads 10 classes" in page for page in pages)
    assert shown[-1]["text/plain"].startswith("['0', '1', '2'"), "the classes of the ONNX file"
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.outputs)
    assert said.count("Winner on validation") == 2
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["paper.jpg", "turned.jpg", "wide.png", "light.png", "ready.png"])
def test_what_the_page_does_to_a_photo_is_what_hwtune_does(tmp_path, name):
    space: dict[str, Any] = {}
    exec(next(cell for cell in CELLS if "def prepare" in cell), space)
    rng = np.random.default_rng(0)
    size = {"wide.png": (30, 70), "ready.png": (20, 20)}.get(name, (40, 40))
    paper, ink = (90, 240) if name == "light.png" else (0, 255) if size == (20, 20) else (200, 20)
    pixels = rng.normal(paper, 5, size)
    pixels[5:15, 8:12] = ink
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    turned = Image.Exif()
    turned[274] = 6 if name == "turned.jpg" else 1  # the camera's orientation
    picture.save(tmp_path / name, exif=turned)
    prepared = space["prepare"](tmp_path / name, 20)
    assert prepared.any()
    np.testing.assert_array_equal(prepared, read_image(tmp_path / name, 20)[None])


def test_the_package_offers_what_it_lists_and_no_other():
    assert all(callable(getattr(hwtune, name)) for name in hwtune.__all__)
    assert set(hwtune.__all__) <= set(dir(hwtune)), "what a notebook completes"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hwtune.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "trials: 0 is not a whole number"),
        ({"time_budget": "soon"}, "time_budget: 'soon' is not a duration"),
        ({"target": 99.8}, "target: 99.8 is not an accuracy"),
        ({"seeds": 0}, "seeds: 0 is not a whole number"),
        ({"split": "both"}, "split='both' is not one of random, writer"),
        ({"sampler": "luck"}, "--sampler 'luck'; known are tpe"),
        ({"scheduler": "luck"}, "--scheduler 'luck'; known are asha"),
    ],
)
def test_a_wrong_argument_is_named_and_leaves_nothing_behind(tmp_path, wrong, message):
    with pytest.raises(HwtuneError, match=message):
        hwtune.run_study("digits_cnn", results=tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_argument_for_a_baseline_is_named(tmp_path):
    for wrong, message in (
        ({"baseline": "other"}, "no baseline or start 'other'"),
        ({"split": "writer"}, "belongs to --honest"),
        ({"split": "both"}, "split='both' is not one of random, writer"),
        ({"seeds": 0}, "seeds: 0 is not a whole number"),
        ({"epochs": 0}, "epochs: 0 is not a whole number"),
    ):
        with pytest.raises(HwtuneError, match=message):
            hwtune.retrain_baseline(
                **{"space": "digits_cnn", "baseline": "plain", "results": tmp_path, **wrong}
            )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_baseline_is_retrained_from_a_notebook(tmp_path):
    space = tmp_path / "mine.py"
    space.write_text(space_source("digits_cnn"), encoding="utf-8")
    study = hwtune.retrain_baseline(
        str(space), "plain", honest=True, epochs=1, seeds=1, name="s", results=tmp_path
    )
    assert study.tested["seeds"].tolist() == [[0]]
    assert study.about["command"] == (
        f"retrain_baseline(space={str(space)!r}, baseline='plain', honest=True, epochs=1, seeds=1, "
        f"name='s', results={tmp_path!r})"
    )


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="Unknown space 'nothing'"):
        hwtune.run_study("nothing", results=tmp_path)
    with pytest.raises(StudyError, match="Unknown study 'nothing'"):
        hwtune.load_classifier("nothing", results=tmp_path)


def test_a_study_knows_how_it_was_called(tmp_path, monkeypatch):
    given = {"self": 1, "trials": 400, "time_budget": "30m", "target": None, "parallel": None,
             "address": None, "gpus_per_trial": None, "mirror": "none",
             "command": None}  # fmt: skip
    assert called_with(given, Study.resume) == "trials=400, time_budget='30m', mirror='none'"
    monkeypatch.setenv("HWTUNE_RESULTS", str(tmp_path))
    committed = StudyFolder(Path(__file__).parents[1] / "results" / "chinese_fast")
    folder = create_study(tmp_path, "mine", "s", about=committed.read_study())
    assert hwtune.load_study("mine").folder.path == folder.path


@pytest.mark.parametrize(
    "before",
    ["import ray", "import hwtune.addresses\nhwtune.addresses.reach_out('192.0.2.1:6379')"],
)
def test_a_cluster_that_would_be_open_to_the_network_is_not_started(before):
    script = f"{before}\nimport hwtune.cluster\nwith hwtune.cluster.started(): pass"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert "ClusterError: Ray would open its ports to the network" in done.stderr
