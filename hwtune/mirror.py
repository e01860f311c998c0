"""Copy a study to an object store or a shared disk while it runs, and fetch it from there."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from hwtune.addresses import around, without_secrets
from hwtune.errors import HwtuneFailure, MirrorError, OptionError, StudyError
from hwtune.files import dump, links_in, staging
from hwtune.study_folder import StudyFolder, not_writable
from hwtune.words import duration, first_line

STUDY, RETRAIN, CHECKPOINTS = "study.json", "retrain.json", "checkpoints"
SENT = "mirror.json"  # beside a copy's files: the size and time of change of what was sent
GIVEN_UP = (CHECKPOINTS, "retraining", "model.onnx")  # what a study that runs may delete
PART = ".part"  # the ending of a file that is being written to a disk
RETRY_SECONDS = 30.0
LAST_TRIES = 3  # of the upload at the end, which nothing follows
SILENT_SECONDS = 300.0  # that the end waits for a last upload of which nothing arrives
INTERRUPTED_SECONDS = 2.0  # that it waits for it in all, when the user ends a study
CHUNK_BYTES = 2**23  # that are written at once
NOTE_SECONDS = 30.0  # of an upload, after which what was sent is noted
# A copy's epochs are never newer than its states, or a resume would train some anew; its journal
# never newer than its epochs, or a trial that is over would lack some; its study.json never newer
# than the rest, or a study would be complete that lacks its test or its model. They are sent in
# this order, study.json last of all, and read in the opposite one. The rest a resume mends: it
# forgets epochs and states of trials that the journal lacks, takes from a state the epochs that the
# records lack, and trains on from there.
SENT_FIRST = (CHECKPOINTS, "epochs.csv", "optuna.journal")
READ_FIRST = (STUDY, "optuna.journal", "epochs.csv")
INCOMPLETE = "The mirror is not complete: its last upload failed or took too long."
UNKNOWN = (-1, -1)  # the size and the time of change of what lay there before, from elsewhere


def open_uri(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI that a user gave, and the path in it.

    Raises:
        OptionError: when `opened` fails.
    """
    try:
        return opened(uri)
    except OSError as error:
        raise no_place(uri, error) from None


def no_place(uri: str, error: Exception) -> OptionError:
    """Return what a user is told of a URI that opens nothing."""
    return OptionError(
        f"{uri!r} is not a place to mirror to ({first_line(error)}); give s3://BUCKET/FOLDER, "
        "gs://BUCKET/FOLDER or file:///FOLDER."
    )


def opened(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI such as s3://bucket/studies, and the path in it.

    Raises:
        OptionError: when there is no such file system, or a key stands in the URI, which would be
            written into the study and sent with it.
        OSError: when it cannot be reached: of a bucket the region is asked for.
    """
    if (bare := without_secrets(uri)) != uri:
        raise OptionError(
            f"{bare!r} has a key in it; leave that out (of an older study.json, too), and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS, in "
            "the environment."
        )
    try:
        return FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError, ImportError) as error:  # of fsspec, too
        raise no_place(uri, error) from None


def files_in(system: FileSystem, path: str, *, absent_too: bool = False) -> dict[str, Any]:
    """Return what a file system says of each file of a folder, by the name in the folder.

    Args:
        absent_too: whether a folder that is not there counts as empty.

    Raises:
        MirrorError: when there is a link: files elsewhere would be read, written and deleted as if
            they were the copy's.
    """
    refuse_links(system, path)
    selector = FileSelector(path, allow_not_found=absent_too, recursive=True)
    return {
        str(PurePosixPath(each.path).relative_to(path)): each
        for each in system.get_file_info(selector)
        if each.type == FileType.File
    }


def refuse_links(system: FileSystem, path: str) -> None:
    """Check that a copy on a disk holds no link, as none does that hwtune wrote.

    Raises:
        MirrorError: when it does.
    """
    if system.type_name == "local":
        for link in links_in(Path(path)):
            raise MirrorError(f"{link} is a link, which no copy holds; remove it.")


def fetch(uri: str, results: Path) -> StudyFolder:
    """Copy a mirrored study into the results folder and return it.

    Raises:
        StudyError: when there is no study at the URI, or its name is taken here.
    """
    system, path = open_uri(uri)
    path = path.rstrip("/")
    target = results / PurePosixPath(path).name
    if target.exists():
        raise StudyError(f"{target} exists already; resume it by its name, or move it away.")
    try:
        files = files_in(system, path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{uri!r} cannot be read ({first_line(error)}).") from None
    if not {STUDY, "epochs.csv"} <= files.keys():
        raise StudyError(
            f"{uri!r} holds no study.json with its epochs.csv; give the URI of a mirrored study."
        )
    noted = notes(system, path, files)
    try:
        with staging(results) as folder:
            copy = folder / target.name
            for name in sorted(files, key=_rank, reverse=True):
                if not name.endswith(PART) and name != SENT:
                    _, changed = noted.get(name, (0, files[name].mtime_ns))
                    _fetch_file(system, files[name], copy, PurePosixPath(name), changed)
            try:
                about = StudyFolder(copy).read_study()
            except StudyError as error:  # names a folder that will be gone
                raise StudyError(str(error).replace(str(copy), uri)) from None
            if about.get("mirror") is not None:  # it goes on where the user found it, nowhere else
                StudyFolder(copy).write_study({**about, "mirror": around(uri)})
            copy.rename(target)
    except OSError as error:
        raise not_writable(results, error, "give another --results") from None
    return StudyFolder(target)


def notes(system: FileSystem, path: str, files: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return what a copy says that it was sent: of each file the size, and the time of change.

    Files that have another size now are left out, all where that does not read: then they are sent
    again.

    Args:
        files: what lies there, as `files_in` returns it.
    """
    try:
        with system.open_input_stream(f"{path}/{SENT}") as stream:
            read = json.loads(stream.read())
        return {
            name: (int(size), int(changed))
            for name, (size, changed) in read.items()
            if name in files and files[name].size == size
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _fetch_file(
    system: FileSystem, entry: Any, copy: Path, inside: PurePosixPath, changed: int | None
) -> None:
    """Copy one file with its time of change, by which a resume may know how long a run was.

    Args:
        changed: when, in nanoseconds; as it was sent, so that it is not sent back.
    """
    if ".." in inside.parts:
        raise StudyError(f"The mirror holds {entry.path!r}, which lies outside of the study.")
    local = copy / inside
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        with system.open_input_stream(entry.path) as stream:
            local.write_bytes(stream.read())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and {*inside.parts} & {*GIVEN_UP}:
            return  # its driver lives
        raise StudyError(f"{entry.path!r} cannot be fetched ({first_line(error)}).") from None
    if changed is not None:
        os.utime(local, ns=(changed, changed))


class Mirror:
    """Uploads what changed of a study, in a thread of its own; the study never waits for it.

    Args:
        tell: what happens is said to it.
        again: the command that goes on with the study, and so completes the copy.
    """

    def __init__(
        self, folder: StudyFolder, uri: str, *, tell: Callable[[str], None], again: str = ""
    ) -> None:
        self.folder, self.uri, self.tell = folder, uri, tell
        self.again = again or folder.command("resume")
        self.sent: dict[str, tuple[int, int]] = {}  # (size, time of change) by relative path
        self.made: set[str] = set()  # folders
        self.noted: dict[str, tuple[int, int]] = {}  # `sent` as the copy knows it
        self.adopted, self.failing, self.given_up = False, False, ""
        self.last_tries = LAST_TRIES
        self.latest = time.monotonic()  # when something arrived last
        self._wanted, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None  # since something was asked for

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
                f"{self.path} holds files that are of no study ({min(found)}, for one); give "
                "--name, or mirror to another place."
            )
        noted = notes(self.system, self.path, found)
        noted.pop(STUDY, None)  # which is sent in any case: it says of which run the copy is
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
            raise MirrorError(
                f"{self.path} holds another study {self.folder.name!r}; give --name, or mirror to "
                "another place."
            )
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
            raise MirrorError(
                f"{self.path}/{name} cannot be read ({error}); give --name, or mirror to another "
                "place."
            ) from None
        return content

    def request(self) -> None:
        """Ask for an upload soon."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

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
        for name in sorted(here, key=_rank):
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

    def _work(self) -> None:
        tries = 0  # at the end
        while tries < (self.last_tries if self.failing else 1):
            self._wanted.wait(RETRY_SECONDS if self.failing else None)
            self._wanted.clear()
            tries += self._ending.is_set()  # read before the upload, which is then the last
            began = time.monotonic()
            try:
                self.upload()
                self.failing = False
            except MirrorError as error:  # somebody else's, which trying again would not change
                self.given_up = f"The mirror is given up: {error}"
                self.tell(self.given_up)
                return
            except Exception as error:  # a thread that ends would end the mirror without a word
                self.made.clear()
                if not self.failing:
                    self.tell(f"The mirror cannot be written ({first_line(error)}); trying again.")
                self.failing = True
                if tries == 1 < self.last_tries:
                    seconds = RETRY_SECONDS * (self.last_tries - 1)
                    self.tell(f"Its last upload is tried for {duration(seconds)} more.")
            self._ending.wait(min(time.monotonic() - began, RETRY_SECONDS))  # half of the time

    @contextmanager
    def running(self) -> Iterator[None]:
        """Upload in the background inside the block, and everything at its end, once asked.

        Raises:
            HwtuneFailure: when the block ended well, and the last upload did not.
        """
        try:
            yield
        except BaseException as error:
            self.last_tries = 1  # why the block ended is to be told
            at_once = isinstance(error, KeyboardInterrupt)
            if not (self._end(at_once=at_once) or self.given_up):
                self.tell(INCOMPLETE)
            raise
        try:
            complete = self._end()
        except KeyboardInterrupt:
            cut = "The mirror is not complete: its last upload was cut short."
            self.tell(f"{cut} To continue: {self.again}")
            raise
        if not complete:
            later = f"{INCOMPLETE} Once it can be reached: {self.again}"
            raise HwtuneFailure(self.given_up or later)

    def _end(self, *, at_once: bool = False) -> bool:
        """Wait for the last upload, if anything was asked for; return whether it is complete.

        Args:
            at_once: not for as long as something arrives, but for a moment.
        """
        self._ending.set()
        if self._thread is None:
            return True
        self.request()
        self.latest = began = time.monotonic()
        while self._thread.is_alive():
            until = began + INTERRUPTED_SECONDS if at_once else self.latest + SILENT_SECONDS
            if time.monotonic() > until:
                break
            self._thread.join(0.1)
        return not (self.failing or self.given_up or self._thread.is_alive())


def _goes_on(
    later: Mapping[str, Any], earlier: Mapping[str, Any], what: str, marks: Sequence[str]
) -> bool:
    """Return whether a list of what happened begins with an earlier one, by the marks of each."""
    now, before = (
        [[each.get(mark) for mark in marks] for each in content.get(what, [])]
        for content in (later, earlier)
    )
    return now[: len(before)] == before


def _rank(name: str) -> tuple[int, str]:
    """Return the place of a file in the order of uploads."""
    first = name.split("/")[0]
    places = len(SENT_FIRST)
    return SENT_FIRST.index(first) if first in SENT_FIRST else places + (name == STUDY), name
