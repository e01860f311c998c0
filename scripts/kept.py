"""Which studies under results/ are the project's own, and not those of whoever works here."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def kept(name: str, place: str = "results/**") -> list[Path]:
    """Return the files of a name that are committed or staged, sorted; without git, all.

    Args:
        place: a pattern of folders, from the project's own.
    """
    found = sorted(ROOT.glob(f"{place}/{name}"))
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--", "results"], capture_output=True, text=True
    )
    if listed.returncode:
        return found
    ours = {ROOT / each for each in listed.stdout.split("\0")}
    return [path for path in found if path in ours]
