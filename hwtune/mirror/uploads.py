"""Keep a study's copy up to date while a command works on the study."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hwtune.errors import HwtuneFailure, MirrorError
from hwtune.mirror.copy import Copy
from hwtune.words import duration, first_line

RETRY_SECONDS = 30.0
LAST_TRIES = 3  # of the upload at the end, which nothing follows
SILENT_SECONDS = 300.0  # that the end waits for a last upload of which nothing arrives
INTERRUPTED_SECONDS = 2.0  # that it waits for it in all, when the user ends a study
INCOMPLETE = "The mirror is not complete: its last upload failed or took too long."


class Uploads:
    """Brings a copy up to date, in a thread of its own; the study never waits for it.

    Args:
        tell: what happens is said to it.
        again: the command that goes on with the study, and so completes the copy.
    """

    def __init__(self, copy: Copy, *, tell: Callable[[str], None], again: str) -> None:
        self.copy, self.tell, self.again = copy, tell, again
        self.failing, self.given_up = False, ""
        self.last_tries = LAST_TRIES
        self._wanted, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None  # since something was asked for

    def request(self) -> None:
        """Ask for an upload soon."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        tries = 0  # at the end
        while tries < (self.last_tries if self.failing else 1):
            self._wanted.wait(RETRY_SECONDS if self.failing else None)
            self._wanted.clear()
            tries += self._ending.is_set()  # read before the upload, which is then the last
            began = time.monotonic()
            try:
                self.copy.upload()
                self.failing = False
            except MirrorError as error:  # somebody else's, which trying again would not change
                self.given_up = f"The mirror is given up: {error}"
                self.tell(self.given_up)
                return
            except Exception as error:  # a thread that ends would end the mirror without a word
                self.copy.made.clear()
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
        self.copy.latest = began = time.monotonic()
        while self._thread.is_alive():
            until = began + INTERRUPTED_SECONDS if at_once else self.copy.latest + SILENT_SECONDS
            if time.monotonic() > until:
                break
            self._thread.join(0.1)
        return not (self.failing or self.given_up or self._thread.is_alive())
