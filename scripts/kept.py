"""Which studies under results/ are the project's own, and not those of whoever works here."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def kept(name: str, place: str = "results/**") -> list[Path]:
    """Return the files of a name that are committed or staged, sorted; all where git knows none.

    Args:
        place: a pattern of folders, from the project's own.
    """
    found = sorted(ROOT.glob(f"{place}/{name}"))
    words = ["git", "-C", ROOT, "ls-files", "-z", "--", "results"]
    try:
        listed = subprocess.run(words, capture_output=True, text=True).stdout
    except FileNotFoundError:  # no git
        listed = ""
    ours = {ROOT / each for each in listed.split("\0")}
    return [path for path in found if path in ours] if listed else found
