import os
import sys
from pathlib import Path

import pytest

from hwtune.commands import hwtune_command, tool


@pytest.fixture
def python_here(tmp_path, monkeypatch):
    """Return a folder that comes first where a shell looks, with a `python` in it."""
    found = tmp_path / "bin" / "python"
    found.parent.mkdir()
    found.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PATH", str(found.parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_command_names_python_where_that_is_the_one_that_runs(python_here, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(python_here))
    assert hwtune_command("resume s") == "python -m hwtune resume s"


def test_where_no_environment_is_active_a_command_names_the_path_of_its_python(
    python_here, monkeypatch, tmp_path
):
    own = tmp_path / "my work" / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.symlink_to(python_here.resolve())  # another environment of the same Python
    monkeypatch.setattr(sys, "executable", str(own))
    assert hwtune_command("resume s") == "'my work/.venv/bin/python' -m hwtune resume s"
    monkeypatch.chdir(own.parents[2])
    assert hwtune_command("resume s") == ".venv/bin/python -m hwtune resume s"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert hwtune_command("resume s") == ".venv/bin/python -m hwtune resume s"


def test_a_python_of_another_version_is_not_named(python_here, monkeypatch):
    other = python_here.with_name("python9")
    other.write_text("")
    monkeypatch.setattr(sys, "executable", str(other))
    assert hwtune_command("resume s") == "bin/python9 -m hwtune resume s"


def test_a_program_beside_hwtune_is_named_where_a_shell_finds_it(python_here, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(python_here))
    assert tool("tensorboard") == "tensorboard"  # installed elsewhere, or not at all
    python_here.with_name("tensorboard").touch(mode=0o755)
    assert tool("tensorboard") == "tensorboard"
    monkeypatch.setenv("PATH", "/nowhere")
    assert tool("tensorboard") == "bin/tensorboard"
