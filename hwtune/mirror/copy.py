"""A study's copy at a place: whose it is, what it lacks, and how that is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow.fs import FileSystem

from hwtune.errors import MirrorError
from hwtune.files import dump
from hwtune.mirror.order import READ_FIRST, STUDY, rank
from hwtune.mirror.places import PART, SENT, files_in, notes, opened, refuse_links
from hwtune.study_folder import StudyFolder

RETRAIN = "retrain.json"
CHUNK_BYTES = 2**23  # that are written at once
NOTE_SECONDS = 30.0  # of an upload, after which what was sent is noted
ELSEWHERE = "give another --mirror, or a new study another --name."
UNKNOWN = (-1, -1)  # the size and the time of change of what lay there before, from elsewhere


class Copy:
    """A study's copy in a folder of its name, at the place that a URI names."""

    def __init__(self, folder: StudyFolder, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.sent: dict[str, tuple[int, int]] = {}  # (size, time of change) by relative path
        self.made: set[str] = set()  # folders
        self.noted: dict[str, tuple[int, int]] = {}  # `sent` as the copy knows it
        self.adopted = False
        self.latest = time.monotonic()  # when something arrived last

    @cached_property
    def place(self) -> tuple[FileSystem, str]:
        """Return the file system and the folder of the copy; to open them may take the network."""
        system, path = opened(self.uri)
        return system, f"{path.rstrip('/')}/{self.folder.name}"

    @property
    def system(self) -> FileSystem:
        """Return the file system of the copy."""
        return self.place[0]

    @property
    def path(self) -> str:
        """Return the folder of the copy."""
        return self.place[1]

    def _check_apart(self) -> None:
        if self.system.type_name != "local":
            return
        here, there = self.folder.path.resolve(), Path(self.path).resolve()
        if here == there or here in there.parents or there in here.parents:
            raise MirrorError(f"{there} holds the study itself or lies in it; mirror elsewhere.")

    def adopt(self) -> dict[str, Any]:
        """Learn what lies at the place already, of this study.

        What was not sent from here, or has changed since, is sent anew, or deleted. Return what
        lies there as `files_in` does.

        Raises:
            MirrorError: when another study of this name lies there, a later state of this one, or
                anything else; or the place lies in the study.
            OptionError, OSError: when the place cannot be read.
        """
        self._check_apart()
        found = files_in(self.system, self.path, absent_too=True)
        found.pop(SENT, None)
        if STUDY in found:
            self._check_ours()
        elif found:  # which an upload would delete
            raise MirrorError(
                f"{self.path} holds files that are of no study ({min(found)}, for one); {ELSEWHERE}"
            )
        noted = notes(self.system, self.path, found)
        noted.pop(STUDY, None)  # which is sent in any case: it says of which run the copy is
        if not self.adopted:  # an answer that comes late finds that an upload asked again
            self.sent = dict.fromkeys(found, UNKNOWN) | noted
            self.adopted = True
        return found

    def _check_ours(self) -> None:
        """Check that the copy is of this study, and of no later state: it may go on elsewhere."""
        there, tested = self._read(STUDY), self._read(RETRAIN)
        if not there:
            return
        here = self.folder.read_study()
        if there.get("started") != here.get("started"):
            raise MirrorError(f"{self.path} holds another study {self.folder.name!r}; {ELSEWHERE}")
        if not (
            _goes_on(here, there, "runs", ("started", "id"))
            and _goes_on(self.folder.read_retrain(), tested, "test_openings", ("time",))
        ):
            raise MirrorError(
                f"{self.path} holds a later state of this study, which went on elsewhere; move "
                f"{self.folder.path} away, and resume the copy by its URI."
            )

    def is_whole(self) -> bool:
        """Return whether the copy has all of a study, by names, sizes, and what tells of a test.

        Raises:
            MirrorError: as `adopt` does.
            OSError: when the place cannot be read.
        """
        there = {name: each.size for name, each in self.adopt().items()}
        here = {name: (self.folder.path / name).stat().st_size for name in self._names()}
        tested = self._read(RETRAIN)
        return (
            there == here
            and self._read(STUDY) == self.folder.read_study()
            and (not tested or tested == self.folder.read_retrain())
        )

    def _read(self, name: str) -> dict[str, Any]:
        """Return a file of the copy, empty where there is none."""
        try:
            with self.system.open_input_stream(f"{self.path}/{name}") as stream:
                read = stream.read()
        except FileNotFoundError:
            return {}
        try:
            content = json.loads(read)
            if not isinstance(content, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            raise MirrorError(f"{self.path}/{name} cannot be read ({error}); {ELSEWHERE}") from None
        return content

    def upload(self) -> None:
        """Send every file that changed since it was sent, and delete what is gone here.

        A reader finds the old or the new content of a file, never a part.
        """
        if self.adopted:
            refuse_links(*self.place)
            self._check_ours()
        else:
            self.adopt()
        if self.sent.get(STUDY, UNKNOWN) == UNKNOWN:  # first whose copy it is, and of which run
            about = {**self.folder.read_study(), "status": "running"}
            about.pop("search_seconds", None)
            self._send(STUDY, dump(about).encode())
        note_at = time.monotonic() + NOTE_SECONDS
        before = self._names()
        read = {name: self._changed(name) for name in READ_FIRST}
        here = self._names()
        for name in sorted(here, key=rank):
            if changed := read[name] if name in read else self._changed(name):
                if name == STUDY:
                    self._check_ours()  # once more: the rest may have taken long
                content, stamp = changed
                self._send(name, content)
                self.sent[name] = stamp
                if time.monotonic() > note_at:
                    self._note()
                    note_at = time.monotonic() + NOTE_SECONDS
        for name in self.sent.keys() - before - here:  # gone before the journal was read
            with suppress(FileNotFoundError):  # someone else deleted it
                self.system.delete_file(f"{self.path}/{name}")
            del self.sent[name]
        self._note()

    def _note(self) -> None:
        """Let the copy know what was sent, so that it is not sent again by a resume."""
        if self.sent != self.noted:
            self._send(SENT, json.dumps(self.sent).encode())
            self.noted = dict(self.sent)

    def _send(self, name: str, content: bytes) -> None:
        target = f"{self.path}/{name}"
        if (parent := str(PurePosixPath(target).parent)) not in self.made:
            self.system.create_dir(parent, recursive=True)
            self.made.add(parent)
        on_disk = self.system.type_name == "local"  # an object appears whole by itself
        with self.system.open_output_stream(target + PART * on_disk) as stream:
            for begin in range(0, len(content), CHUNK_BYTES):
                stream.write(content[begin : begin + CHUNK_BYTES])
                self.latest = time.monotonic()
        if on_disk:
            self.system.move(target + PART, target)

    def _names(self) -> set[str]:
        return {str(path.relative_to(self.folder.path)) for path in self.folder.lasting_files()}

    def _changed(self, name: str) -> tuple[bytes, tuple[int, int]] | None:
        """Return a file's content, size and time of change, None unless it is to be sent."""
        path = self.folder.path / name
        try:
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            return None if self.sent.get(name) == stamp else (path.read_bytes(), stamp)
        except FileNotFoundError:
            return None  # a state that was given up a moment ago


def _goes_on(
    later: Mapping[str, Any], earlier: Mapping[str, Any], what: str, marks: Sequence[str]
) -> bool:
    """Return whether a list of what happened begins with an earlier one, by the marks of each."""
    now, before = (
        [[each.get(mark) for mark in marks] for each in content.get(what, [])]
        for content in (later, earlier)
    )
    return now[: len(before)] == before
