"""The command line: words in, words out; no logic."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from hwtune import __version__
from hwtune.cli import data, models, studies, views
from hwtune.cli.tables import complain
from hwtune.errors import FAILED, INTERRUPTED, MISTAKEN, HwtuneError, HwtuneFailure
from hwtune.files import FULL_OR_BROKEN
from hwtune.signals import hush

UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

app = typer.Typer(
    name="hwtune",
    help="Search for the best classifier for a set of handwriting, and say how sure it is.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (studies.search, studies.resume, studies.retrain, views.studies, views.report,
                views.trials, views.compare, views.dashboard, models.predict, models.export,
                views.spaces):  # fmt: skip
    app.command()(command)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Search for the best classifier for a set of handwriting, and say how sure it is."""
    if version:
        print(f"hwtune {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # whoever started this process has closed it
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):  # a test's own stream may be another
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?"
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:  # Typer's own checks, one line instead of its box
        words = error.format_message().replace("Value error, ", "")  # pydantic's, of a wrong choice
        fail(f"{words}{'' if words[-1] in '.?' else '.'} See --help.", error.exit_code)
    except HwtuneError as error:
        fail(error, MISTAKEN)
    except HwtuneFailure as error:
        fail(error, FAILED)
    except BrokenPipeError:  # as behind `| head`
        hush()
        sys.exit(FAILED)
    except OSError as error:
        if not is_there():
            fail("The working folder was removed; go to another (cd), then try again.", MISTAKEN)
        if error.errno in UNREACHABLE and error.filename is not None:
            fail(f"{error.filename}: {error.strerror}; give a path that you may use.", MISTAKEN)
        if error.errno not in FULL_OR_BROKEN:
            raise
        where = error.filename or "a file"
        fail(f"{where}: {error.strerror}; see to that disk or folder, then try again.", FAILED)
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def is_there() -> bool:
    """Return whether the working folder still is."""
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def fail(error: object, code: int) -> NoReturn:
    """Print one line to the standard error and leave."""
    complain(" ".join(str(error).split()))
    sys.stderr.flush()
    sys.exit(code)
