"""hwtune's own commands as a user can give them from where they stand."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from hwtune.files import for_people


def hwtune_command(arguments: str) -> str:
    """Return the line that runs a command of hwtune by the Python that runs now.

    That is `python` where a shell finds the same one under this name, else its path: nobody needs
    to have activated an environment.

    Args:
        arguments: behind "hwtune", quoted for a shell where they need it.
    """
    found = shutil.which("python")
    known = found is not None and os.path.samefile(Path(found).parent, Path(sys.executable).parent)
    python = "python" if known else shlex.quote(for_people(Path(sys.executable)))
    return f"{python} -m hwtune {arguments}"
