"""What ends a search at once, since it cannot be recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


class Halt(BaseException):
    """The study's files cannot be written any more; nothing may be written after this.

    Not an Exception: Ray Tune would clean up after one, and call back to write.
    """


def halting(method: Method) -> Method:
    """Make a method that writes raise Halt when the system refuses, such as on a full disk."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            raise Halt(error.strerror or str(error)) from error

    return wrapped  # type: ignore[return-value]
