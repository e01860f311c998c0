"""Downloads through the `kaggle` command, logged out or with the user's own credentials."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from hwtune.errors import DataError, DownloadFailure, HwtuneError, HwtuneFailure
from hwtune.files import staging, unwritable


def not_writable(folder: Path, error: OSError) -> HwtuneError | HwtuneFailure:
    """Return what to raise where the data folder cannot be written."""
    return unwritable(f"The data folder {folder}", error, DataError, "set HWTUNE_DATA")


@contextmanager
def room_in(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside the data folder, for what is then put in place there.

    Raises:
        DataError: when the data folder may not be written.
        HwtuneFailure: when it has no room.
    """
    with ExitStack() as stack:
        try:
            new = stack.enter_context(staging(folder))
        except OSError as error:
            raise not_writable(folder, error) from None
        yield new


def kaggle_command() -> str:
    """Return the `kaggle` command of this Python, or of the PATH."""
    beside = Path(sys.executable).parent / "kaggle"
    return str(beside) if beside.exists() else shutil.which("kaggle") or "kaggle"


def download_kaggle(
    handle: str,
    target: Path,
    *,
    total: int,
    check: Callable[[Path], object],
    silence: float = 20.0,
    command: str | None = None,
) -> None:
    """Download the zip of a Kaggle data set to the file `target`, with a progress bar.

    Args:
        handle: OWNER/NAME on Kaggle.
        target: the zip's path; its folder is made.
        total: the expected size in bytes, for the bar alone.
        check: reads the zip before it is put in place, and raises when it is damaged.
        silence: seconds without a new byte after which the download is given up.
        command: the kaggle command; default: the one of this Python.

    Raises:
        DownloadFailure: when nothing arrives; nothing is left behind then.
    """
    with room_in(target.parent) as folder:
        log = folder / "kaggle.log"
        words = [command or kaggle_command(), "datasets", "download", handle]
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*words, "-p", str(folder), "--quiet"], stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT,
                )  # fmt: skip
        except OSError as error:
            why = error.strerror
            raise DownloadFailure(f"The kaggle command does not start ({why}).") from None
        try:
            _watch(process, folder, handle, total, silence)
        finally:
            process.kill()
            process.wait()
        zips = list(folder.glob("*.zip"))
        if process.returncode or not zips:
            raise DownloadFailure(f"Kaggle did not send {handle}: {last_words(log)}.")
        check(zips[0])
        os.replace(zips[0], target)


def last_words(log: Path) -> str:
    """Return why the kaggle command failed, as its last line says."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "it gave no reason")
    if "Max retries exceeded" in last:
        return "its server cannot be reached from here"
    return last.rstrip(".")[:200]


def _watch(
    process: subprocess.Popen[bytes], folder: Path, handle: str, total: int, silence: float
) -> None:
    """Show the bytes arriving until the process ends.

    Raises:
        DownloadFailure: when none arrived for `silence` seconds.
    """
    columns = (TextColumn("Downloading {task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), transient=True) as progress:
        task = progress.add_task(handle, total=total)
        seen, since = 0, time.monotonic()
        while process.poll() is None:
            files = [file for file in folder.rglob("*") if file.name != "kaggle.log"]
            arrived = sum(file.stat().st_size for file in files if file.exists())
            if arrived > seen:
                seen, since = arrived, time.monotonic()
                progress.update(task, completed=arrived)
            if time.monotonic() - since > silence:
                raise DownloadFailure(f"Kaggle sent no byte of {handle} for {silence:.0f} seconds.")
            time.sleep(0.1)
