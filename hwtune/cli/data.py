"""Commands on data sets: list, get, add, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwtune.cli.options import Json
from hwtune.cli.tables import say, show_table

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """List, get, add and check data sets."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List the data sets, and whether each is at hand.

    Example: `python -m hwtune data list`
    """
    from hwtune.data import DATASETS, find_data, is_at_hand, own_names, source_of
    from hwtune.data.images import data_folder
    from hwtune.files import dump

    rows = [
        {
            "name": name,
            "at_hand": is_at_hand(name),
            "place": str(find_data(name) or ("built in" if is_at_hand(name) else "")),
            "title": source_of(name).title,
        }
        for name in [*DATASETS, *own_names()]
    ]
    if as_json:
        print(dump(rows), end="")
        return
    show_table(
        ("data set", "at hand", "what it is", "place"),
        ((r["name"], "yes" if r["at_hand"] else "no", r["title"], r["place"]) for r in rows),
    )
    print(f"Data folder: {data_folder()}")


@app.command("get")
def get(name: Annotated[str, typer.Argument(help="A data set's name.")]) -> None:
    """Download a data set, unless it is at hand, and check it.

    Example: `python -m hwtune data get chinese_mnist`
    """
    from hwtune.data import get_data, load_data

    get_data(name)
    dataset = load_data(name)
    print(f"{name}: {len(dataset.images):,} images.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A data set's name, or a new one.")],
    path: Annotated[Path, typer.Argument(help="Its archive or folder.")],
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out", help="Go without pictures that do not read, and classes with too few."
        ),
    ] = False,
) -> None:
    """Check an archive or folder of a data set and copy it into the data folder.

    Under a new name it takes a folder of your own pictures: CLASS/PICTURE, or CLASS/WRITER/PICTURE.

    Example: `python -m hwtune data add chinese_mnist archive.zip`
    """
    from hwtune.data import DATASETS
    from hwtune.data.add import add_data
    from hwtune.data.folder import listed
    from hwtune.words import for_people

    copy, left = add_data(name, path.absolute(), leave_out=leave_out)
    print(f"{name}: checked and copied to {for_people(copy)}")
    if left:
        say(f"Left out: {listed(left)}")
    if name not in DATASETS:
        from hwtune.overview import describe_own

        for line in describe_own(name, path):
            say(line)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A data set's name.")], as_json: Json = False
) -> None:
    """Decode a data set from its source, whatever the cache holds, and count it.

    Example: `python -m hwtune data check chinese_mnist`
    """
    from hwtune.files import dump
    from hwtune.overview import describe_data, in_lines

    shown = describe_data(name)
    if as_json:
        print(dump(shown), end="")
        return
    for line in in_lines(shown):
        say(line)
