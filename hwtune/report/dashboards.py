"""TensorBoard and the Optuna dashboard of a study, each a process of its own, on loopback alone."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hwtune.commands import installing
from hwtune.errors import HwtuneFailure
from hwtune.imports import import_path
from hwtune.study_folder import StudyFolder

HOST = "127.0.0.1"
TENSORBOARD_PORT, OPTUNA_PORT = 6006, 8080  # where people look for them; another one if taken
PATIENCE = 90.0  # seconds until one answers
PAUSE = 0.2


@dataclass
class Dashboards:
    """What serves a study; addresses and processes by name."""

    addresses: dict[str, str] = field(default_factory=dict)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def wait(self) -> None:
        """Return never, while all of them serve.

        Raises:
            HwtuneFailure: when one has ended.
        """
        while True:
            for name, server in self.servers.items():
                if server.poll() is not None:
                    raise HwtuneFailure(f"{name} has ended by itself; start the command again.")
            time.sleep(PAUSE)


@contextmanager
def dashboards(folder: StudyFolder) -> Iterator[Dashboards]:
    """Serve the dashboards of a study; they end with the block, or with this process.

    The Optuna dashboard is left out where its package or the study's journal is not there, Ray's
    where the study is not being searched on this machine.

    Raises:
        HwtuneFailure: when one does not start.
    """
    found = Dashboards()
    wanted = {"TensorBoard": (TENSORBOARD_PORT, "", folder.tensorboard)}
    if not lacking(folder):
        wanted["Optuna dashboard"] = (OPTUNA_PORT, "/dashboard", folder.journal)
    with ExitStack() as running:
        logs = Path(running.enter_context(TemporaryDirectory(prefix="hwtune-")))
        for name, (usual, page, source) in wanted.items():
            port = free_port(usual)
            server = served(name, source, port=port, log=logs / f"{port}.log")
            found.servers[name] = running.enter_context(server)
            found.addresses[name] = f"http://{HOST}:{port}{page}"
        if address := ray_dashboard(folder):
            found.addresses["Ray dashboard"] = address
        yield found


def ray_dashboard(folder: StudyFolder) -> str:
    """Return the address of Ray's dashboard while a study is searched on this machine, or ""."""
    about = folder.read_study_now()
    runs = about.get("runs")
    if not runs or about["status"] != "running":
        return ""
    address = str(runs[-1].get("dashboard", ""))
    host, _, port = address.removeprefix("http://").rpartition(":")
    if not port.isdecimal():
        return ""
    with socket.socket() as probe:
        return address if host == HOST and probe.connect_ex((host, int(port))) == 0 else ""


def lacking(folder: StudyFolder) -> str:
    """Return why a study has no Optuna dashboard, or ""."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        return f"it is not installed; {installing('optuna-dashboard')}"
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
def served(name: str, source: Path, *, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server of `SERVERS` on a port until the block ends.

    It reads its standard input, which the system closes when this process is killed, and ends then.

    Raises:
        HwtuneFailure: when nobody answers there.
    """
    words = [sys.executable, "-P", "-m", __name__, name, str(source), str(port)]  # -P: as here
    env = {**os.environ, "PYTHONPATH": import_path()}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file, stderr=file, env=env)
    try:
        wait_for(process, port, log)
        yield process
    finally:
        process.terminate()
        process.wait()  # before its input is closed, which would end it at once
        assert process.stdin is not None
        process.stdin.close()


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


def serve_tensorboard(folder: str, port: int) -> None:
    """Serve TensorBoard."""
    from tensorboard.program import TensorBoard

    board = TensorBoard()
    board.configure(
        [None, "--logdir", folder, "--host", HOST, "--port", str(port), "--reload_interval", "5"]
    )
    board.main()


def serve_journal(journal: str, port: int) -> None:
    """Serve the Optuna dashboard; it locks the journal as a search does, and may run beside one."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna_dashboard import run_server

    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    run_server(storage, host=HOST, port=port)


SERVERS = {"TensorBoard": serve_tensorboard, "Optuna dashboard": serve_journal}


def end_with_parent() -> None:
    """Leave when the standard input is closed."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    SERVERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
