"""A study's copy elsewhere, kept while a command works on it, or completed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hwtune import cluster
from hwtune.contract import About
from hwtune.mirror.copy import Copy
from hwtune.mirror.places import open_uri
from hwtune.mirror.uploads import Uploads
from hwtune.pipeline.command import Command
from hwtune.pipeline.session import Session
from hwtune.study_folder import StudyFolder
from hwtune.words import printable

NOWHERE = "none"  # as --mirror says it
ADOPTION_SECONDS = 60.0  # that a start waits for what lies at a mirror's place


def remirror(about: About, mirror: str | None) -> None:
    """Let a study have its copy elsewhere from now on; the old copy stays as it is.

    Args:
        mirror: the place, `NOWHERE`, or None for where it was before.

    Raises:
        OptionError: when it is no place.
    """
    if mirror is None:
        return
    if mirror != NOWHERE:
        open_uri(mirror)
    about["mirror"] = None if mirror == NOWHERE else mirror


@contextmanager
def mirrored(session: Session) -> Iterator[Callable[[], None]]:
    """Keep the study's copy elsewhere, if it has one; yields what asks for an upload.

    Nothing is sent before it was asked once, so that a study that never began leaves no copy.
    """
    uri = session.about.get("mirror")
    if uri is None:
        yield lambda: None
        return
    copy = Copy(session.folder, uri)
    uploads = Uploads(copy, tell=session.say, again=session.again("resume"))
    session.say(f"Mirror: {printable(uri)}")
    with suppress(OSError):  # the mirror itself says so, and tries again
        cluster.answered(copy.adopt, seconds=ADOPTION_SECONDS)
    with uploads.running():
        yield uploads.request


def complete_mirror(folder: StudyFolder, about: About, command: Command) -> bool:
    """Send what the copy of a study that ended lacks; return whether it lacked any, or moved.

    Args:
        about: of the study, whose place for a copy may be another than its file says.

    Raises:
        MirrorError: when the copy is another study's, or a later state of this one.
        HwtuneFailure: when the place cannot be reached.
    """
    uri = about.get("mirror")
    moved = uri != folder.read_study().get("mirror")
    if uri is None:
        if moved:
            folder.write_study(about)
            command.console.print("The study has no mirror any more.")
        return moved
    copy = Copy(folder, uri)
    uploads = Uploads(copy, tell=command.console.print, again=folder.command("resume"))
    with suppress(OSError):  # the upload says so
        if cluster.answered(copy.is_whole, seconds=ADOPTION_SECONDS) and not moved:
            return False
    if moved:  # not before the place was looked at: one that is refused changes nothing
        folder.write_study(about)
    with uploads.running():
        uploads.request()
    command.console.print(f"The mirror is complete: {printable(uri)}")
    return True
