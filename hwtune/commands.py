"""hwtune's own commands as a user can give them from where they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from hwtune.words import for_people, printable

CALL = re.compile(r"(run_study|retrain_baseline|load_study)\(")  # in Python


def hwtune_command(arguments: str) -> str:
    """Return the line that runs a command of hwtune by the Python that runs now.

    That is `python` where a shell finds the same one under this name, else its path: nobody needs
    to have activated an environment.

    Args:
        arguments: behind "hwtune", quoted for a shell where they need it.
    """
    return printable(f"{by_name('python', Path(sys.executable))} -m hwtune {arguments}")


def once_more(text: str) -> str:
    """Return what gives a command again, as it is recorded, from where the user stands.

    A shell does no more with it, whoever wrote the record.
    """
    program, _, arguments = text.partition(" ")
    if program != "hwtune":
        return printable(text if CALL.match(text) else shlex.quote(text))
    try:
        words = shlex.split(arguments)
    except ValueError:
        words = [arguments]
    return hwtune_command(shlex.join(words))


def installing(*packages: str) -> str:
    """Return the line that installs packages for the Python that runs now."""
    return f"{by_name('python', Path(sys.executable))} -m pip install {' '.join(packages)}"


def tool(name: str) -> str:
    """Return what runs a program that was installed beside hwtune, such as "tensorboard"."""
    beside = Path(sys.executable).with_name(name)
    return by_name(name, beside) if beside.is_file() else name


def by_name(name: str, program: Path) -> str:
    """Return a program's name where a shell finds the same one under it, else its path."""
    found = shutil.which(name)
    same = found is not None and (
        os.path.samefile(found, program) and os.path.samefile(Path(found).parent, program.parent)
    )
    return name if same else shlex.quote(for_people(program))
