import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from hwtune.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m hwtune (.*?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_documented_command_is_understood(line):
    command, words = get_command(app), shlex.split(line)
    context = command.make_context("hwtune", words, resilient_parsing=False)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, parent=context)  # parses, without running


def test_the_readme_documents_commands():
    assert len(COMMANDS) >= 8


def test_the_result_table_is_made_from_the_studies():
    script = [sys.executable, ROOT / "scripts" / "results_table", "--check"]
    assert subprocess.run(script).returncode == 0, "run scripts/results_table"


def test_every_path_in_the_tree_is_there():
    tree = README.split("```")[-2]
    for line in tree.strip().splitlines():
        name = line.split()[0]
        assert (ROOT / name).exists() or (ROOT / "hwtune" / name).exists(), name
