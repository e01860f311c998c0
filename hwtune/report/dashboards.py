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
        port = free_port(TENSORBOARD_PORT)
        words = ["tensorboard.main", "--logdir", str(folder.tensorboard), "--host", HOST,
                 "--port", str(port), "--reload_interval", "5"]  # fmt: skip
        running.enter_context(served(words, port, folder.path / "logs" / "tensorboard.log"))
        addresses["TensorBoard"] = f"http://{HOST}:{port}"
        if has_optuna_dashboard() and folder.journal.is_file():
            port = free_port(OPTUNA_PORT)
            words = [__name__, str(folder.journal), str(port)]
            running.enter_context(served(words, port, folder.path / "logs" / "optuna.log"))
            addresses["Optuna dashboard"] = f"http://{HOST}:{port}/dashboard"
        yield addresses


def has_optuna_dashboard() -> bool:
    """Return whether the package of the Optuna dashboard is installed."""
    return importlib.util.find_spec("optuna_dashboard") is not None


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
    log.parent.mkdir(exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        wait_for(process, port, f"{words[0]} (its log: {log})")
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int, name: str) -> None:
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
    raise HwtuneFailure(f"Nothing answers on port {port}, where {name} should.")


def serve_journal(journal: str, port: int) -> None:
    """Serve the Optuna dashboard; it locks the journal as a search does, and may run beside one."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna_dashboard import run_server

    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    run_server(storage, host=HOST, port=port)


if __name__ == "__main__":
    serve_journal(sys.argv[1], int(sys.argv[2]))
