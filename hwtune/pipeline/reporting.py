"""The report of a command's study, written in a process of its own, however the command ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

from hwtune.errors import NO_CLUSTER, HwtuneFailure
from hwtune.imports import import_path
from hwtune.report.words import state_of
from hwtune.search.halt import Halt
from hwtune.study_folder import StudyFolder

HEAD = 1000  # characters of a page, among which it says of what state of its study it is
INTERRUPTED_SECONDS = 5.0  # for the report, when the user ends a study


@contextmanager
def reported(folder: StudyFolder, console: Console) -> Iterator[None]:
    """Write the report of what there is, however the block ends; a user who ended it waits briefly.

    Raises:
        HwtuneFailure: when it cannot be written.
    """
    try:
        yield
    except (Halt, *NO_CLUSTER):
        raise  # there is no room for a page either, or nothing new
    except KeyboardInterrupt:
        try:
            report(folder, seconds=INTERRUPTED_SECONDS)
        except Exception as error:  # the page must not hide why the block ended
            console.print(f"{error}")
        raise
    except BaseException:
        with suppress(Exception):
            report(folder)
        raise
    try:
        report(folder)
    except KeyboardInterrupt:
        console.print(f"{unwritten(folder, 'interrupted')}")
        raise


def page_completed(folder: StudyFolder, console: Console, *, anew: bool = False) -> bool:
    """Write the page of a complete study that a killed process had not; return whether it did.

    Args:
        anew: whether it is written in any case.

    Raises:
        HwtuneFailure: when it cannot be written.
    """
    if not anew and folder.report.is_file() and is_of_the_end(folder):
        return False
    report(folder)
    console.print(f"Study {folder.name} is complete; what it lacked was made anew.")
    return True


def is_of_the_end(folder: StudyFolder) -> bool:
    """Return whether the page of a complete study is of its last run and test, or does not say."""
    with folder.report.open(encoding="utf-8") as file:
        said = re.search(r'name="hwtune-state" content="([^"]*)"', file.read(HEAD))
    return said is None or said[1] == state_of(folder.read_study(), folder.read_retrain())


def report(folder: StudyFolder, *, seconds: float | None = None) -> None:
    """Write the report in another process, which takes its libraries with it when it ends.

    Raises:
        HwtuneFailure: when it cannot be written, or not within so many seconds.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hwtune", "report", folder.path],  # -P: as found here
            env={**os.environ, "PYTHONPATH": import_path()},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a terminal that closes tells it to a whole group, and twice
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise unwritten(folder, f"it takes longer than {seconds:g} seconds") from None
    if done.returncode:
        why = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
        raise unwritten(folder, why.removeprefix("hwtune: ").rstrip("."))


def unwritten(folder: StudyFolder, why: str) -> HwtuneFailure:
    """Return what says that there is no report, why, and how to make it."""
    return HwtuneFailure(
        f"The report was not written ({why}); all else is in {folder.path}. "
        f"Again: {folder.command('report')}"
    )
