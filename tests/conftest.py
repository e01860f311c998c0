"""Shared fixtures: folders of their own, the real data where it is, the command line."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image
from rich.console import Console

from hwtune import cluster
from hwtune.cli import main
from hwtune.data import load_data
from hwtune.data.images import Dataset

if os.environ.get("CI"):  # the same draws each time
    settings.register_profile("ci", derandomize=True)
    settings.load_profile("ci")
REAL_DATA = Path(os.environ["HWTUNE_DATA"]) if os.environ.get("HWTUNE_DATA") else None
COLOUR = re.compile(r"\x1b\[[\d;]*m")  # of a terminal, and its bold and plain
Run = Callable[..., subprocess.CompletedProcess[str]]
LONGEST = (  # files of tests that start many processes
    "test_faults.py", "test_end_to_end.py", "test_study.py", "test_slurm.py", "test_uploads.py",
    "test_browser.py", "test_bench.py", "test_retrain.py", "test_cluster.py", "test_baseline.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Let no test but those of a GPU find one, which would train by other arithmetic."""
    if not re.search(r"(?<!not )\bgpu\b", config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that two processes end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.name) in LONGEST else 99)


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests away from the user's data and cache folders."""
    os.environ["HWTUNE_DATA"] = str(tmp_path_factory.mktemp("data"))
    os.environ["HWTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("HWTUNE_RESULTS", None)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread, as trials do on a CPU."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the real data sets, or skip."""
    if REAL_DATA is None or not (REAL_DATA / "chinese-mnist.zip").is_file():
        pytest.skip("set HWTUNE_DATA to a folder with chinese-mnist.zip and MNIST/")
    monkeypatch.setenv("HWTUNE_DATA", str(REAL_DATA))
    return REAL_DATA


@pytest.fixture(scope="session")
def digits(own_folders: None) -> Dataset:
    """Return scikit-learn's digits."""
    return load_data("digits")


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Hold a Ray cluster of two cores in this process while the tests of a module run."""
    with cluster.started(cpus=2):
        yield


@pytest.fixture
def console() -> Console:
    """Return a console that is no terminal; what it was told is in its `file`."""
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def hwtune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs the command line, results under tmp_path/results.

    It runs in this process, which spares the imports of a new one; what starts Ray does not
    belong here, but in test_end_to_end.py.
    """
    monkeypatch.setenv("HWTUNE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "120")
    closed = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # an --address opens it, for this process
    monkeypatch.setenv(closed, os.environ.get(closed, "0"))

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = ["hwtune", *map(str, words)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        gc.unfreeze()  # what a command imported for good: this process goes on
        output = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(command, code, output.out, output.err)

    return run


def keep_picture(name: str, take: Callable[[], bytes]) -> None:
    """Keep a screenshot for the README, small, where HWTUNE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("HWTUNE_SCREENSHOTS"):
        picture = Image.open(io.BytesIO(take())).convert("RGB").quantize(64)
        picture.save(Path(folder) / f"{name}.png", optimize=True)


def whole(outcome):
    """Return whether nothing was lost or repeated and the study met its budget."""
    return (
        outcome.recorded > 0
        and outcome.lost == outcome.repeated == 0
        and outcome.trials == outcome.wanted
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command ended with one line that holds `words`, and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("hwtune: ")
    for word in words:
        assert word in done.stderr
