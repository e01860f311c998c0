"""Break running studies in every way and see what is lost.

Each fault really happens: processes are killed, disks fill up, nodes vanish. The tests run the same
functions (`tests/test_faults.py`); this writes the table results/faults.md:

    python -m scripts.bench.faults
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from hwtune import cluster
from hwtune.data import load_data
from hwtune.slots import Slots
from hwtune.study_folder import StudyFolder
from scripts.bench.bare_search import bare_search
from scripts.bench.faulty import FLAG, DyingRunner, FaultyRunner

ROOT = Path(__file__).resolve().parents[2]
ONE_AT_A_TIME = ("--parallel", 1, "--sampler", "random", "--epochs", 4)  # repeats exactly
PATIENCE = 240.0  # seconds until a study that shows no progress counts as stuck
Epochs = dict[tuple[int, int], tuple[str, ...]]


@dataclass(frozen=True)
class Outcome:
    """What a fault did to a study.

    Attributes:
        done: what was done, in words.
        recorded: epochs on disk when it happened, the sum over all times.
        lost: of those, how many were gone or changed afterwards.
        repeated: recorded epochs that were trained again.
        trials: that the study has in the end, of those it should have.
        wanted: how many it should have.
    """

    fault: str
    done: str
    recorded: int
    lost: int
    repeated: int
    trials: int
    wanted: int


def lost(wanted: Epochs, found: Epochs) -> int:
    """Return how many of the wanted epochs are gone or changed."""
    return sum(found.get(key) != row for key, row in wanted.items())


def words(*more: Any) -> list[str]:
    """Return a command line of hwtune."""
    return [sys.executable, "-m", "hwtune", *map(str, more)]


class Study:
    """A study named s in a results folder, run by real processes."""

    def __init__(self, results: Path, *options: Any, trials: int = 8) -> None:
        self.results, self.trials = results, trials
        self.search = words(
            "search", "digits_cnn", "--trials", trials, "--seeds", 1, "--name", "s", *options
        )
        self.recorded = self.lost = 0
        self.before: Epochs = {}
        self.said = results.with_name(f"{results.name}.said")

    def start(self, *more: Any) -> subprocess.Popen[bytes]:
        """Start the search, or go on with it where it exists; both in a session of their own."""
        exists = (self.results / "s" / "study.json").exists()
        command = words("resume", "s", *more) if exists else self.search
        with self.said.open("wb") as file:  # a pipe that nobody reads would fill up
            return subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, "HWTUNE_RESULTS": str(self.results), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )  # fmt: skip

    def ended(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a process, return what it printed; one that is stuck is killed with all."""
        seen, deadline = -1, 0.0
        while process.poll() is None:
            now = self.said.stat().st_size + len(self.rows("epochs.csv"))
            if now != seen:
                seen, deadline = now, time.monotonic() + PATIENCE
            if time.monotonic() > deadline:
                kill_family(process.pid)
                raise RuntimeError(f"no progress in {PATIENCE} s: {self.said.read_text()}")
            time.sleep(0.1)
        return self.said.read_text(encoding="utf-8")

    def kill(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> str:
        """End the driver, return what it printed; a terminal's signals reach its whole group."""
        if number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        return self.ended(process)

    def finish(self, *more: Any) -> str:
        """Run the study to its end and return what it printed."""
        process = self.start(*more)
        output = self.ended(process)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {output}")
        self.look()
        return output

    def rows(self, name: str) -> list[dict[str, str]]:
        """Return the whole lines of a file, none while it is absent."""
        try:
            text = (self.results / "s" / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))

    def epochs(self) -> Epochs:
        """Return what is recorded of each (trial, epoch), the seconds left out."""
        return {
            (int(row["trial"]), int(row["epoch"])): tuple(row.values())[2:6]
            for row in self.rows("epochs.csv")
        }

    def wait(self, process: subprocess.Popen[bytes], more: int) -> None:
        """Wait until so many more epochs are recorded, or the process is over."""
        seen = len(self.rows("epochs.csv"))
        wanted, deadline = seen + more, time.monotonic() + PATIENCE
        while seen < wanted and process.poll() is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no progress in {PATIENCE} s: {self.kill(process)}")
            time.sleep(0.02)
            now = len(self.rows("epochs.csv"))
            if now > seen:
                seen, deadline = now, time.monotonic() + PATIENCE

    def look(self) -> None:
        """Count what is gone since the last look, and recorded epochs that no state holds."""
        now = self.epochs()
        self.lost += lost(self.before, now) + self.without_state(now)
        self.recorded += len(now) - len(self.before)
        self.before = now

    def reports(self) -> dict[int, list[dict[str, Any]]]:
        """Return what the state of each trial says of its epochs."""
        return {
            int(path.stem): torch.load(path, weights_only=True)["reports"]
            for path in StudyFolder(self.results / "s").checkpoints.glob("[0-9]*.pt")
        }

    def without_state(self, epochs: Epochs) -> int:
        """Return how many of the epochs would be trained again, the states being behind."""
        states = self.reports()
        return sum(trial in states and epoch > len(states[trial]) for trial, epoch in epochs)

    def repeated(self) -> int:
        """Return how many recorded epochs took another time than their states say.

        A record keeps the first time, and a state the last: they are of two trainings then.
        """
        states, count = self.reports(), 0
        for row in self.rows("epochs.csv"):
            known = states.get(int(row["trial"]), [])[int(row["epoch"]) - 1 :]
            count += bool(known) and float(known[0]["seconds"]) != float(row["seconds"])
        return count

    def outcome(self, fault: str, done: str) -> Outcome:
        """Return what became of the study."""
        self.look()
        ended = [r for r in self.rows("trials.csv") if r["state"] in ("complete", "stopped")]
        trained = [row for row in ended if row["epochs"] != "0"]
        return Outcome(
            fault, done, self.recorded, self.lost, self.repeated(), len(trained), self.trials,
        )  # fmt: skip


def driver_killed(results: Path, *, times: int = 20, seed: int = 0) -> Outcome:
    """Kill the driver at random moments: half of them early, half while it records."""
    rng, begins = random.Random(seed), 12.0
    study = Study(results, *ONE_AT_A_TIME, trials=40)
    for index in range(times):
        started = time.monotonic()
        process = study.start()
        if index % 2:
            study.wait(process, 1)
            begins = time.monotonic() - started
            study.wait(process, rng.randint(0, 2))
            time.sleep(rng.uniform(0, 0.3))
        else:  # before the first epoch
            time.sleep(rng.uniform(0.05, 1) * begins)
        output = study.kill(process)
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"exit code {process.returncode}: {output}")
        study.look()
    study.finish()
    calm = undisturbed(results.with_name("calm")).epochs()
    study.look()
    study.lost += lost(calm, study.before)
    done = f"{times} times at random moments, then resume; compared with an undisturbed run"
    return study.outcome("SIGKILL of the driver", done)


def undisturbed(results: Path) -> Study:
    """Run the study of `driver_killed` without any fault."""
    study = Study(results, *ONE_AT_A_TIME, trials=40)
    study.finish()
    return study


def family(driver: int) -> list[psutil.Process]:
    """Return a driver and all that it started."""
    own = psutil.Process(driver)
    return [own, *own.children(recursive=True)]


def kill_family(driver: int) -> None:
    """Kill a driver and all that it started."""
    for each in family(driver):
        with suppress(psutil.NoSuchProcess):  # some end as soon as another has gone
            each.kill()


def trial_processes(driver: int) -> list[int]:
    """Return the processes of a driver's trials, by either of the names that Ray gives them."""
    found = []
    with suppress(psutil.NoSuchProcess):  # the driver has ended
        for each in family(driver):
            with suppress(psutil.Error):  # this one has
                if any(n in " ".join(each.cmdline()) for n in ("TrialRunner", "ResourceTrainable")):
                    found.append(each.pid)
    return found


def trial_killed(results: Path, *, times: int = 3) -> Outcome:
    """Kill a trial's process, several times."""
    study = Study(results, "--epochs", 20, "--scheduler", "none", trials=4)
    process = study.start()
    killed = 0
    for _ in range(times):
        study.wait(process, 6)
        study.look()
        for pid in trial_processes(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    output = study.ended(process)
    if process.returncode or killed < times or " lost its process" not in output:
        raise RuntimeError(f"{killed} killed, exit code {process.returncode}: {output}")
    return study.outcome("SIGKILL of a trial's process", f"{killed} times, the study ran on")


def retraining_killed(results: Path) -> Outcome:
    """Kill the driver while it retrains the best, before the test."""
    study = Study(results, "--epochs", 60, "--scheduler", "none", trials=2)
    process = study.start()
    until = time.monotonic() + PATIENCE
    while not list((results / "s" / "retraining").glob("[!.]*.pt")) and process.poll() is None:
        if time.monotonic() > until:
            raise RuntimeError(f"no retraining in {PATIENCE} s: {study.kill(process)}")
        time.sleep(0.02)
    study.kill(process)
    study.look()
    study.finish()
    return study.outcome("SIGKILL of the driver", "once while it retrained the best, then resume")


def all_killed(results: Path) -> Outcome:
    """Kill a search with all that it started, as a reboot does."""
    study = Study(results, "--epochs", 12, "--scheduler", "none", trials=4)
    process = study.start()
    study.wait(process, 6)
    kill_family(process.pid)
    study.ended(process)
    study.look()
    study.finish()
    return study.outcome(
        "SIGKILL of everything", "driver, Ray and trials at once, as by a reboot; then resume"
    )


def node_lost(results: Path) -> Outcome:
    """Kill one of three nodes of a Ray cluster while its trials run."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        victim, _ = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
        options = ("--epochs", 20, "--scheduler", "none", "--address", nodes.address)
        study = Study(results, *options, trials=6)
        process = study.start()
        study.wait(process, 20)
        study.look()
        nodes.remove_node(victim, allow_graceful=False)
        output = study.ended(process)
        if process.returncode or " lost its process" not in output:
            raise RuntimeError(f"exit code {process.returncode}: {output}")
    finally:
        nodes.shutdown()
    return study.outcome("SIGKILL of a node", "one of three nodes, the study ran on")


def memory_short(results: Path) -> Outcome:
    """Fill the memory of the machine until Ray itself ends a trial's process, then free it."""
    with memory_limit(room=6e9) as room:
        study = Study(results, "--epochs", 300, "--scheduler", "none", trials=2)
        process = study.start()
        study.wait(process, 20)
        study.look()
        before, filler = set(trial_processes(process.pid)), []
        until = time.monotonic() + PATIENCE
        while before <= set(trial_processes(process.pid)) and time.monotonic() < until:
            filler.append(bytearray(b"x") * 10**8)
            if len(filler) * 1e8 > room + 2e9:
                raise RuntimeError(f"Ray ended nothing: {study.kill(process)}")
            time.sleep(0.1)
        del filler
        output = study.ended(process)
    if process.returncode or "short of memory" not in output:  # the trials may have ended before
        raise RuntimeError(f"exit code {process.returncode}: {output}")
    return study.outcome("memory short", "a trial's process ended by Ray, the study ran on")


@contextmanager
def memory_limit(*, room: float) -> Iterator[float]:
    """Let clusters that start in the block end processes once so many more bytes are in use.

    Yields how many that are: fewer than asked for where the machine has no more.
    """
    # Not before hwtune, which keeps Ray's own clusters on loopback.
    from ray._private.utils import get_system_memory, get_used_memory

    used, memory = get_used_memory(), get_system_memory()
    room = min(room, 0.95 * memory - used)
    names = ("RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms")
    os.environ |= dict(zip(names, (f"{(used + room) / memory:.3f}", "100"), strict=True))
    try:
        yield room
    finally:
        for name in names:
            del os.environ[name]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system, which needs root."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def disk_full(folder: Path) -> Outcome:
    """Fill the disk while a study records, free it, and go on."""
    with small_disk(folder, 40) as results:
        study = Study(results, "--epochs", 16, "--scheduler", "none", trials=4)
        process = study.start()
        study.wait(process, 6)
        filler = results / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65536))
            except OSError:
                pass
        output = study.ended(process)
        if process.returncode != 1 or "resume s" not in output:
            raise RuntimeError(f"exit code {process.returncode}: {output}")
        study.look()
        filler.unlink()
        study.finish()
        return study.outcome("full disk", "once on a file system of 40 MB, then freed and resumed")


def interrupted(results: Path, number: int) -> tuple[Outcome, float]:
    """Interrupt a study with a signal, then go on; return the seconds until it had ended, too."""
    study = Study(results, "--epochs", 12, "--scheduler", "none", trials=3)
    return interrupt(study, number, "once", after=6)


def large_interrupted(results: Path, *, trials: int = 1000) -> tuple[Outcome, float]:
    """Interrupt a mirrored study of many trials shortly before its end, then go on."""
    mirror = results.with_name("mirror").as_uri()
    study = Study(results, "--epochs", 1, "--mirror", mirror, trials=trials)
    done = f"once of {trials:,} trials with a mirror"
    return interrupt(study, signal.SIGINT, done, after=trials - 20)


def interrupt(study: Study, number: int, done: str, *, after: int) -> tuple[Outcome, float]:
    """Interrupt a study with a signal after so many epochs, then go on; return the seconds, too."""
    process = study.start()
    study.wait(process, after)
    began = time.monotonic()
    output = study.kill(process, number)
    seconds = time.monotonic() - began
    if process.returncode != 130 or "python -m hwtune resume s" not in output:
        raise RuntimeError(f"exit code {process.returncode}: {output}")
    if any((study.results / "s" / name).exists() for name in ("retrain.json", "model")):
        raise RuntimeError("half a search was retrained")
    study.look()
    study.finish()
    name = signal.Signals(number).name
    return study.outcome(name, f"{done}; it had ended after {seconds:.1f} s, then resume"), seconds


def trials_fail(results: Path) -> Outcome:
    """Let trials of one study fail in every way, inside the Ray cluster that runs.

    `faulty.FLAG` must have named a file since before the cluster started.
    """
    digits = load_data("digits")
    settings = {"sampler": "random", "scheduler": "none", "trials": 7}
    _, ledger = bare_search(results, digits, runner=FaultyRunner, **settings)
    bare_search(results.with_name("calm"), digits, **settings)
    study, calm = Study(results, trials=2), Study(results.with_name("calm"))
    whole = {number for number, trial in ledger.trials.items() if trial.state == "complete"}
    kept = {key: row for key, row in calm.epochs().items() if key[0] in whole or key[1] == 1}
    study.lost = lost(kept, study.epochs())
    return study.outcome(
        "trials that fail",
        "of seven one raises, one gives NaN, two run out of memory, of the machine and of a GPU "
        "(raised where there is none), one loses its process at every try, each in its second "
        "epoch, and one loses it once; compared with an undisturbed run",
    )


def reused_process_lost(results: Path) -> Outcome:
    """Let a process that had trained one trial be dead before the next begins in it."""
    bare_search(
        results, load_data("digits"), runner=DyingRunner, trials=3, slots=Slots(1),
        scheduler="none",
    )  # fmt: skip
    if not Path(os.environ[FLAG] + DyingRunner.mark).exists():
        raise RuntimeError("no process died")
    return Study(results, trials=3).outcome(
        "SIGKILL of a trial's process", "once between two trials"
    )


def in_cluster(fault: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
    """Return a fault that runs in a cluster of its own."""

    def alone(results: Path) -> Outcome:
        with tempfile.TemporaryDirectory() as flags:
            os.environ[FLAG] = f"{flags}/killed"
            with cluster.started(cpus=2):
                return fault(results)

    return alone


FAULTS: list[Callable[[Path], Outcome]] = [
    lambda folder: interrupted(folder, signal.SIGINT)[0],
    lambda folder: interrupted(folder, signal.SIGTERM)[0],
    lambda folder: interrupted(folder, signal.SIGHUP)[0],
    lambda folder: large_interrupted(folder)[0],
    driver_killed,
    retraining_killed,
    all_killed,
    trial_killed,
    node_lost,
    memory_short,
    disk_full,
    in_cluster(reused_process_lost),
    in_cluster(trials_fail),
]


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    lines = [
        "# What was tried on running studies, and what was lost",
        "",
        "Made by `python -m scripts.bench.faults`; the tests do the same.",
        "",
        "| fault | done | epochs recorded | lost | trained twice | trials, of |",
        "|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        with tempfile.TemporaryDirectory(prefix="hwtune-faults-") as folder:
            row = fault(Path(folder) / "results")
        print(row, flush=True)
        lines.append(
            f"| {row.fault} | {row.done} | {row.recorded} | {row.lost} | {row.repeated} "
            f"| {row.trials} of {row.wanted} |"
        )
    text = "\n".join(lines) + "\n"
    (ROOT / "results" / "faults.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
