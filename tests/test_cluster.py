import json
import os
import secrets
import signal
import site
import socket
import stat
import subprocess
import sys
import threading
import time
import venv
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster

from hwtune import cluster
from hwtune.addresses import on_loopback_alone, reach_out
from hwtune.config import TrialConfig
from hwtune.data.splits import SplitSpec, search_split
from hwtune.errors import ClusterError, ClusterFailure
from hwtune.evaluation.parallel import Job, train_all
from hwtune.hardware import hardware
from hwtune.search.budget import CostModel
from hwtune.search.probe import probe
from hwtune.search.trial import TrialRunner
from hwtune.search.worker import Worker
from hwtune.signals import signals_caught
from hwtune.slots import plan_slots
from hwtune.space import load_space
from scripts.bench.bare_search import bare_search
from scripts.bench.faults import PATIENCE


class PlacedRunner(TrialRunner):
    """Trains by a worker that takes notes."""

    def make_worker(self, data, store):
        return PlacedWorker(data, store)


class PlacedWorker(Worker):
    """Notes which machine trains, with which GPU."""

    def train_epoch(self):
        """Train after taking a note."""
        note = {"node": ray.get_runtime_context().get_node_id(), "gpus": ray.get_gpu_ids()}
        with open(os.environ["HWTUNE_TEST_NOTES"], "a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
        return super().train_epoch()


@pytest.mark.cluster
def test_a_cluster_of_cpus_and_gpus_trains_on_both(tmp_path, digits, monkeypatch, console):
    """The GPU is one for Ray alone; training on it falls back to the CPU, which is said."""
    if hardware()["gpus"]:
        pytest.skip("torch would find the GPU of this machine")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # empty, it forbids Ray to have any
    split, said = search_split(digits, SplitSpec()), []
    space = load_space("digits_cnn")
    notes = tmp_path / "notes"
    monkeypatch.setenv("HWTUNE_TEST_NOTES", str(notes))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    try:
        nodes.add_node(num_cpus=1, num_gpus=1)
        with cluster.started(nodes.address):
            slots = plan_slots(cluster.machines_alive())
            assert (slots.parallel, slots.plain, slots.gpus) == (1, 1, 1.0)
            _, ledger = bare_search(
                tmp_path, digits, runner=PlacedRunner, slots=slots, scheduler="none"
            )
            data = ray.put(split)
            assert probe(space, data, CostModel(), tell=said.append) is None
            job = Job("a", TrialConfig(filters=str(10**12)), 0, data, slice(None))
            ((_, broken),) = train_all([job], tmp_path / "states", slots=slots, console=console)
    finally:
        nodes.shutdown()
    assert said[-1].startswith("torch cannot use the GPU that Ray has found")
    assert broken.startswith("it broke 3 times (")
    assert "allocate" in broken
    assert all(t.state == "complete" for t in ledger.trials.values())
    seen = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(seen) == 6 * 3
    by_gpu = {bool(note["gpus"]): note["node"] for note in seen}
    assert len(by_gpu) == len(set(by_gpu.values())) == 2


@contextmanager
def machine(python, log, environment, *words):
    """Run `ray start` as docs/clusters.md says, in a process group that ends with the block."""
    command = [python, "-m", "ray.scripts.scripts", "start", "--num-cpus", "1", "--block", *words]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=log.parent,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.cluster
def test_hwtune_travels_to_machines_that_lack_it(tmp_path):
    """Two nodes started by hand, whose Python has every package but hwtune."""
    venv.create(tmp_path / "bare")
    python = tmp_path / "bare" / "bin" / "python"
    shared = next((tmp_path / "bare" / "lib").glob("python*")) / "site-packages" / "shared.pth"
    shared.write_text("\n".join(site.getsitepackages()))
    lacks = subprocess.run([python, "-c", "import hwtune.cli"], capture_output=True, cwd=tmp_path)
    assert b"No module named" in lacks.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        "HWTUNE_RESULTS": str(tmp_path / "results"),
    }
    head = ("--head", "--port", str(port), "--include-dashboard", "false")
    search = [sys.executable, "-m", "hwtune", "search", "digits_cnn", "--trials", "3"]
    search += ["--seeds", "1", "--name", "s", "--address", f"127.0.0.1:{port}"]
    with (
        machine(python, tmp_path / "head.log", environment, *head),
        machine(python, tmp_path / "node.log", environment, "--address", f"127.0.0.1:{port}"),
    ):
        extend = [*search[:3], "resume", "s", "--trials", "4", "--address", "auto"]
        for words, variable in ((search, {}), (extend, {"RAY_ADDRESS": f"127.0.0.1:{port}"})):
            done = subprocess.run(
                words, capture_output=True, text=True, env=environment | variable, cwd=tmp_path,
                timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert "2 trials at once" in done.stdout
    assert (tmp_path / "results" / "s" / "report.html").is_file()


def word_of_the_module():
    import only_here  # type: ignore[import-not-found]

    return only_here.WORD


def test_processes_of_this_machine_import_what_this_one_does(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("WORD = 'found'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for before in (None, "elsewhere"):
        if before:
            monkeypatch.setenv("PYTHONPATH", before)
        else:
            monkeypatch.delenv("PYTHONPATH", raising=False)
        with cluster.started(cpus=1):
            assert os.environ.get("PYTHONPATH") == before
            assert ray.get(ray.remote(word_of_the_module).remote()) == "found"


@pytest.mark.slow
def test_ray_is_started_once_more_where_it_was_not_up_in_time(monkeypatch):
    init, tries = ray.init, []

    def late(**options):
        tries.append(options)
        if len(tries) == 1:
            raise Exception("The current node timed out during startup.")  # as Ray does
        return init(**options)

    monkeypatch.setattr(ray, "init", late)
    with cluster.started(cpus=1):
        assert ray.cluster_resources()["CPU"] == 1
    assert len(tries) == 2


def test_what_ray_does_not_answer_at_an_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    answer = threading.Event()
    began = time.monotonic()
    cluster.if_ray_is_there(answer.wait)  # for ever
    assert cluster.END_SECONDS <= time.monotonic() - began < 10
    answer.set()

    def broken():
        raise RuntimeError("GCS has gone")

    cluster.if_ray_is_there(broken)  # why the study ends is what counts


def test_nobody_else_reads_the_token_of_rays_clusters(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        cluster.keep_token_from_others()
        assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) == 0o700
        (tmp_path / ".ray").chmod(0o755)  # as Ray makes it


def test_a_machine_that_is_too_slow_for_ray_is_named(monkeypatch):
    def never(**options):
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", never)
    with (
        pytest.raises(ClusterFailure, match="Ray does not start .* when less runs"),
        cluster.started(),
    ):
        pass


def test_another_cluster_than_that_of_this_process_is_refused():
    with cluster.started(cpus=1):
        own = ray.get_runtime_context().gcs_address
        for address in (None, "auto", own):
            with cluster.started(address):
                pass
        with (
            pytest.raises(ClusterError, match=f"is in the Ray cluster at {own} already; give that"),
            cluster.started("10.0.0.5:6379"),
        ):
            pass


def test_a_connection_that_hangs_is_given_up():
    assert cluster.answered(lambda: "joined", seconds=5) == "joined"
    with pytest.raises(OSError, match="refused"):
        cluster.answered(refuse, seconds=5)
    with pytest.raises(TimeoutError, match="did not answer"):
        cluster.answered(threading.Event().wait, seconds=0.1)


def refuse():
    raise OSError("refused")


def test_a_cluster_on_loopback_alone_is_recognised():
    with socket.create_server(("127.0.0.1", 0)) as alone:
        assert on_loopback_alone(f"127.0.0.1:{alone.getsockname()[1]}")
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        assert not on_loopback_alone(f"127.0.0.1:{everywhere.getsockname()[1]}")
    assert not on_loopback_alone("auto")
    assert not on_loopback_alone("10.0.0.5:6379")


def test_a_cluster_that_is_joined_may_be_reached(monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    reach_out("auto")
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"


def test_sigterm_while_ray_starts_is_an_interruption(monkeypatch):
    """Whatever Ray would do with it: what its handler raises may be passed over."""

    def asked_to_end(**options):
        ray._private.utils.set_sigterm_handler(lambda number, frame: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ray, "init", asked_to_end)
    with pytest.raises(KeyboardInterrupt), signals_caught(), cluster.started(cpus=1):
        pass
