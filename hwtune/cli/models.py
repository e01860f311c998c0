"""Commands that use the model of a study: predict, export."""

from __future__ import annotations

import csv
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hwtune.cli.options import Csv, Json, Results, Study, one_format, option
from hwtune.cli.tables import complain, say
from hwtune.study_folder import DEFAULT_RESULTS
from hwtune.values import positive, probability_of

if TYPE_CHECKING:
    from hwtune.errors import DataError
    from hwtune.evaluation.classifier import Prediction


def predict(
    study: Study,
    images: Annotated[
        list[Path], typer.Argument(help="Pictures of one character each, or folders of such.")
    ],
    *,
    top: Annotated[
        int,
        typer.Option(
            parser=option(positive),
            metavar="N",
            help="Name so many classes of each picture, the most probable first.",
        ),
    ] = 1,
    below: Annotated[
        float | None,
        typer.Option(
            parser=option(probability_of),
            metavar="P",
            help="List those alone that are read with a probability below P, to be checked.",
        ),
    ] = None,
    labelled: Annotated[
        bool,
        typer.Option(
            "--labelled",
            help="They lie in a folder as CLASS/PICTURE: list the misread, count the others.",
        ),
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Read pictures with the model of a study; what is no picture is named on the standard error.

    Example: `python -m hwtune predict chinese_cnn photo.jpg`
    """
    from hwtune.data.folder import (
        asked_of,
        class_of,
        composed,
        folders_behind_links,
        passed_over,
    )
    from hwtune.data.photos import ENDINGS
    from hwtune.errors import MISTAKEN, DataError, OptionError
    from hwtune.files import dump
    from hwtune.imports import lasting_imports
    from hwtune.report.words import exact
    from hwtune.results import model_folder
    from hwtune.words import counted, for_people

    one_format(as_json, as_csv)
    if labelled and below is not None:
        raise OptionError("--labelled lists the misread, --below the uncertain; give one.")
    model = model_folder(results.absolute(), study)
    with lasting_imports():
        from hwtune.evaluation.classifier import against_labels, load_classifier
    asked = [(each, *asked_of(each)) for each in images]
    files = [file for _, some, _ in asked for file in some]
    classifier = load_classifier(model)
    names = {composed(each): each for each in classifier.classes}
    labels = {
        file: class_of(file, each, names) for each, some, _ in asked for file in some if labelled
    }
    if others := [file for _, _, left_out in asked for file in left_out]:
        complain(f"passed over {passed_over(others)}; pictures end in {', '.join(ENDINGS)}.")
    for link in chain.from_iterable(map(folders_behind_links, images)):
        complain(f"{for_people(link)} is a link to a folder, which is not followed; give it, too.")
    empty = [
        (each, DataError(f"{for_people(each)} holds no picture ({', '.join(ENDINGS)})."))
        for each, some, _ in asked
        if not some
    ]
    top = min(top, len(classifier.classes))
    table = csv.DictWriter(sys.stdout, columns(top, labelled=labelled), lineterminator="\n")
    if as_csv:
        table.writeheader()
    rows, read, failed, pictures, listed = [], [], False, 0, 0
    answers = zip(files, classifier.read_each(files, top=top), strict=True)
    for file, answer in chain(answers, empty):
        label = labels.get(file)
        if isinstance(answer, DataError):
            failed = True
            complain(answer)
        else:
            pictures += 1
            if label is not None:
                read.append((label, answer.label))
            if below is not None and answer.probability >= below:
                continue
            listed += 1
        if as_json:
            rows.append(row_of(file, answer, label))
        elif as_csv:
            table.writerow(flat(row_of(file, answer, label)))
            sys.stdout.flush()  # a reader must not wait for the last picture
        elif not isinstance(answer, DataError) and label != answer.label:
            say(f"{file}: {answer}{'' if label is None else f', labelled {label}'}")
    if as_json:
        print(dump(rows), end="")
    elif read and not as_csv:
        for words in against_labels(read):
            say(words)
    elif pictures and below is not None and not as_csv:
        say(f"{listed:,} of {counted(pictures, 'picture')} read with less than {exact(below)}.")
    if failed:
        raise typer.Exit(MISTAKEN)


def row_of(file: Path, answer: Prediction | DataError, label: str | None) -> dict[str, Any]:
    """Return for programs what was read, or why nothing was.

    Args:
        label: of the picture, None where it has none.
    """
    row: dict[str, Any] = {"image": str(file), **({} if label is None else {"labelled": label})}
    if isinstance(answer, Exception):
        return {**row, "error": str(answer)}
    row |= {"label": answer.label, "probability": answer.probability}
    others = [{"label": each.label, "probability": each.probability} for each in answer.others]
    return {**row, "others": others} if others else row


def columns(top: int, *, labelled: bool) -> list[str]:
    """Return the columns of the table, with those of the classes behind the most probable."""
    others = [f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "probability")]
    return ["image", *["labelled"] * labelled, "label", "probability", *others, "error"]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return what `row_of` says in a line of the table."""
    more = {
        f"{name}_{place}": value
        for place, other in enumerate(row.pop("others", []), start=2)
        for name, value in other.items()
    }
    return {**row, **more}


def export(
    study: Study,
    to: Annotated[
        Literal["onnx"], typer.Option("--format", help="The format of the file.")
    ] = "onnx",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write the model of a study for programs without hwtune: grey images, light ink on black.

    Example: `python -m hwtune export chinese_cnn`
    """
    from hwtune.api import load_study
    from hwtune.words import for_people

    print(for_people(load_study(study, results=results).export()))
