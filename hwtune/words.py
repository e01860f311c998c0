"""Words for people: paths, numbers of things, errors in a line; and nothing that commands them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

COMMANDS = re.compile(  # control characters, lines, what turns the direction, half characters
    r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def for_people(path: Path) -> str:
    """Return a path as people write it: from the working folder, where it lies in that."""
    here = Path.cwd()
    return printable(path.relative_to(here) if path.is_relative_to(here) else path)


def printable(text: object) -> str:
    """Return a text without a character that a terminal would take for a command."""
    return COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return that there is no such thing, with what there is."""
    names = list(known)
    return f"Unknown {what} {name!r}{meant(name, names)}; known are {', '.join(names)}"


def meant(name: str, known: Iterable[str]) -> str:
    """Return the name that somebody may have meant, in brackets, or ""."""
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    return f" (did you mean {near[0]!r}?)" if near else ""


def counted(number: int, thing: str) -> str:
    """Return a number of things for people."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Return a time for people."""
    return counted(round(seconds), "second") if seconds < 100 else f"{seconds / 60:.0f} minutes"


def first_line(error: BaseException) -> str:
    """Return an error in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def in_a_line(error: BaseException) -> str:
    """Return what an error says, its beginning where that is long."""
    return " ".join(str(error).split())[:200]
