"""Commands that show studies, or a space."""

from __future__ import annotations

import csv
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwtune.cli.options import Csv, Json, Results, Study, TrialNumber, one_format
from hwtune.cli.tables import complain, say, show_table, width
from hwtune.study_folder import DEFAULT_RESULTS

if TYPE_CHECKING:
    from hwtune.records import TrialRecord
    from hwtune.report.content import Content

MOST_TRIALS = 200  # that are shown at once
WIDE = 110  # columns of a terminal that has room for a sentence in a table


def studies(as_json: Json = False, results: Results = DEFAULT_RESULTS) -> None:
    """List the studies of the results folder, the newest first; one that cannot be read is named.

    Example: `python -m hwtune studies`
    """
    from hwtune.errors import MISTAKEN, StudyError
    from hwtune.files import dump
    from hwtune.results import studies_in, summary

    found, failed = [], False
    for folder in studies_in(results.absolute()):
        try:
            found.append(summary(folder))
        except StudyError as error:
            complain(error)
            failed = True
    found.sort(key=lambda each: each["started"], reverse=True)
    if as_json:
        print(dump(found), end="")
    elif found:
        columns = ("study", "started", "data", "status", "tested", "asks")
        shown = len(columns) - (width() < WIDE)  # where there is no room for a sentence
        rows = [
            (
                each["study"],
                each["started"].partition("T")[0],
                each["data"],
                each["status"],
                "-" if each["tested"] is None else f"{each['tested']:.2%}",
                each["asks"],
            )
            for each in found
        ]
        show_table(columns[:shown], [row[:shown] for row in rows], whole=0)
    elif not failed:
        print(f"No study in {results.absolute()}; --results names another folder.")
    if failed:
        raise typer.Exit(MISTAKEN)


def report(study: Study, results: Results = DEFAULT_RESULTS) -> None:
    """Write the page of a study anew from its files.

    Example: `python -m hwtune report chinese_cnn`
    """
    from hwtune.api import load_study
    from hwtune.words import for_people

    print(for_people(load_study(study, results=results).write_report()))


def trials(
    study: Study,
    number: TrialNumber = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help=f"Show more than the best {MOST_TRIALS}.")
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Show a study's trials, the best first, and why each was stopped; or one of them in full.

    Example: `python -m hwtune trials chinese_cnn`
    """
    from hwtune.columns import trials_csv
    from hwtune.files import dump
    from hwtune.records import more_trials
    from hwtune.report.content import answer, read_content
    from hwtune.results import find_study
    from hwtune.words import counted

    one_format(as_json, as_csv)
    folder = find_study(results.absolute(), study)
    content = read_content(folder)
    chosen = content.trials if number is None else [content.trial(number)]
    if as_json:
        rows = [
            {
                **vars(t),
                "name": content.names.get(t.trial, ""),
                "config": content.space.parse(t.config),
            }
            for t in chosen
        ]
        if number is not None:
            curve = [vars(each) for each in content.epochs if each.trial == number]
            rows[0] |= {"fixed": content.space.fixed, "curve": curve}
        print(dump(rows), end="")
        return
    if as_csv:
        print(trials_csv(chosen, content.about["space"]["search"]), end="")
        return
    if number is not None:
        show_trial(content, chosen[0])
        return
    if content.trials:
        show_table(
            ("trial", "epochs", "accuracy", "parameters", "state, and why"),
            (
                (
                    f"{t.trial} {content.names.get(t.trial, '')}",
                    t.epochs,
                    f"{t.val_accuracy:.2%}" if t.epochs else "-",
                    f"{t.parameters:,}",
                    t.outcome,
                )
                for t in content.trials[: None if every else MOST_TRIALS]
            ),
            whole=4,
        )
        if not every and (more := len(content.trials) - MOST_TRIALS) > 0:
            print(f"And {counted(more, 'trial')} more: --all shows them, too.")
        print("Accuracy is that of a trial's best epoch on validation.")
        if content.front:
            say(content.front)
    say(answer(content))
    if (status := content.about["status"]) in ("interrupted", "failed"):
        what = "was cut off" if status == "interrupted" else "failed"
        again = folder.command("resume", *more_trials(content.trials))
        print(f"The study {what}. To continue: {again}")


def show_trial(content: Content, trial: TrialRecord) -> None:
    """Show a trial in full: why it ended, its hyperparameters, its epochs."""
    from hwtune.report.words import short

    known = content.names.get(trial.trial, "")
    say(f"Trial {trial.trial}{f' ({known})' if known else ''}: {trial.outcome}")
    values, fixed = content.space.parse(trial.config), content.space.fixed
    show_table(
        ("hyperparameter", "value"),
        (
            *((name, short(str(value))) for name, value in values.items()),
            *((name, f"{value} (fixed)") for name, value in fixed.items()),
        ),
    )
    show_table(
        ("epoch", "train loss", "val loss", "val accuracy", "learning rate", "seconds"),
        (
            (
                f"{e.epoch}{' best' if e.epoch == trial.best_epoch else ''}",
                f"{e.train_loss:.4f}", f"{e.val_loss:.4f}", f"{e.val_accuracy:.2%}",
                f"{e.lr:.2g}", f"{e.seconds:.1f}",
            )
            for e in content.epochs
            if e.trial == trial.trial
        ),
    )  # fmt: skip
    name = f"{content.about['study']}-{trial.trial}"
    say(f"For a space of your own: starts={ {name: values} }")


def compare(
    studies: Annotated[list[str], typer.Argument(help="Names under the results folder, or paths.")],
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them as one page, too.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Show studies side by side, and whether their winners can be told apart.

    Example: `python -m hwtune compare chinese_cnn chinese_cnn-2 --page compare.html`
    """
    from hwtune.errors import OptionError
    from hwtune.files import dump
    from hwtune.report.compare import described, raw_rows, rows, winners, write_comparison
    from hwtune.report.verdicts import basis, verdicts
    from hwtune.results import find_study

    one_format(as_json, as_csv)
    if len(studies) < 2:
        raise OptionError(f"compare takes two studies or more, not {studies[0]!r} alone.")
    folders = [find_study(results.absolute(), name) for name in studies]
    if len({folder.path for folder in folders}) < len(folders):
        raise OptionError(f"compare was given a study twice: {' '.join(studies)}; name each once.")
    compared = described(folders)
    if page:
        try:
            if page.is_dir():  # also ".", which has no name to write to
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            write_comparison(page, folders, compared)
        except OSError as error:
            raise OptionError(
                f"--page {page} cannot be written ({error.strerror}); give another file."
            ) from None
    words, why = verdicts(tested := winners(compared)), basis(tested)
    if as_json:
        shown = [each.values for each in compared]
        print(dump({"studies": shown, "verdicts": words, "basis": why}), end="")
        return
    titles = ["", *(each.name for each in compared)]
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([titles, *raw_rows(compared)])
        return
    show_table(titles, [[title, *cells] for title, cells in rows(compared)])
    for line in (*words, why):
        if line:
            say(line)


def dashboard(
    study: Study,
    browser: Annotated[bool, typer.Option("--open", help="Open them in the browser, too.")] = False,
    as_json: Json = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Serve TensorBoard and the Optuna dashboard of a study until Ctrl-C.

    A study may be watched while it is searched; Ray's dashboard is named then, too. Only this
    machine can see them.

    Example: `python -m hwtune dashboard chinese_cnn`
    """
    import webbrowser

    from hwtune.commands import tool
    from hwtune.files import dump
    from hwtune.report.dashboards import dashboards, lacking
    from hwtune.results import find_study
    from hwtune.signals import catch_signals

    catch_signals()
    folder = find_study(results.absolute(), study)
    with suppress(KeyboardInterrupt), dashboards(folder) as found:
        if as_json:
            print(dump(found.addresses), end="", flush=True)
        else:
            token = f" (it asks for a token: {tool('ray')} get-auth-token)"
            for name, address in found.addresses.items():
                print(f"{name}: {address}{token if name.startswith('Ray') else ''}")
            if why := lacking(folder):
                print(f"No Optuna dashboard: {why}")
            print("Ctrl-C ends them.", flush=True)
        if browser:
            for address in found.addresses.values():
                webbrowser.open(address)
        found.wait()


def spaces(
    space: Annotated[
        str | None, typer.Argument(help="A name or a .py file to check and show; none: list all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces, or check one and show it with its baselines.

    Example: `python -m hwtune spaces chinese_cnn`
    """
    from hwtune.files import dump
    from hwtune.overview import describe_space, list_spaces

    if space is None:
        listed = list_spaces()
        if as_json:
            print(dump(listed), end="")
        else:
            show_table(("space", "data", "question"), (each.values() for each in listed))
        return
    shown = describe_space(space)
    if as_json:
        print(dump(shown), end="")
        return
    print(shown["question"])
    show_table(("hyperparameter", "values"), shown["search"].items())
    show_table(("fixed", "value"), shown["fixed"].items())
    show_table(
        ("point", "parameters", "multiply-accumulates", "trained"),
        (
            (p["name"], amount(p["parameters"]), amount(p["macs"]), p["trained"])
            for p in shown["points"]
        ),
    )


def amount(number: int | None) -> str:
    """Return a number for people, "-" for what does not exist."""
    return "-" if number is None else f"{number:,}"
