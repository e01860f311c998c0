"""TensorBoard and the Optuna dashboard of a study, each a process of its own, on loopback alone."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hwtune.errors import HwtuneFailure
from hwtune.records import StudyFolder

HOST = "127.0.0.1"
TENSORBOARD_PORT, OPTUNA_PORT = 6006, 8080  # where people look for them; another one if taken
PATIENCE = 90.0  # seconds until one answers
PAUSE = 0.2


@contextmanager
def dashboards(folder: StudyFolder) -> Iterator[dict[str, str]]:
    """Yield the addresses of the dashboards by name; they end with the block.

    The Optuna dashboard is left out where its package or the study's journal is not there.

    Raises:
        HwtuneFailure: when one does not start.
    """
    addresses = {}
    with ExitStack() as running:
        logs = Path(running.enter_context(TemporaryDirectory(prefix="hwtune-")))
        port = free_port(TENSORBOARD_PORT)
        words = ["tensorboard.main", "--logdir", str(folder.tensorboard), "--host", HOST,
                 "--port", str(port), "--reload_interval", "5"]  # fmt: skip
        running.enter_context(served(words, port, logs / "tensorboard"))
        addresses["TensorBoard"] = f"http://{HOST}:{port}"
        if not lacking(folder):
            port = free_port(OPTUNA_PORT)
            words = [__name__, str(folder.journal), str(port)]
            running.enter_context(served(words, port, logs / "optuna"))
            addresses["Optuna dashboard"] = f"http://{HOST}:{port}/dashboard"
        yield addresses


def lacking(folder: StudyFolder) -> str:
    """Return why a study has no Optuna dashboard, or ""."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        return "it is not installed; pip install optuna-dashboard"
    return "" if folder.journal.is_file() else f"{folder.name} keeps no {folder.journal.name}"


def free_port(wanted: int) -> int:
    """Return `wanted` if nobody listens there, else a port of the system's choice."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise HwtuneFailure("This machine has no free port left.")


@contextmanager
def served(words: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a module of Python that listens on a port until the block ends.

    Raises:
        HwtuneFailure: when nobody answers there.
    """
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        wait_for(process, port, log)
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when somebody listens on the port of a process.

    Raises:
        HwtuneFailure: when it ends before, or takes too long.
    """
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(PAUSE)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise HwtuneFailure(f"Nothing answers on port {port}: {' '.join(last) or 'it said nothing'}")


def serve_journal(journal: str, port: int) -> None:
    """Serve the Optuna dashboard; it locks the journal as a search does, and may run beside one."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna_dashboard import run_server

    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    run_server(storage, host=HOST, port=port)


if __name__ == "__main__":
    serve_journal(sys.argv[1], int(sys.argv[2]))
