import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from hwtune.cli import app
from hwtune.config import TrialConfig
from hwtune.space import load_space
from hwtune.statistics import wilson_interval
from scripts.kept import kept

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = " ".join((ROOT / "docs" / "guide.md").read_text(encoding="utf-8").split())
DOCUMENTED = {
    path.name: re.findall(
        r"(?:^|entrypoint: |RUN )\s*python -m hwtune (.*?)(?:\s+#.*)?$",
        path.read_text(encoding="utf-8"), re.MULTILINE,
    )
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.*")))
    if path.suffix in (".md", ".yaml")
}  # fmt: skip


@pytest.mark.parametrize("line", sorted({line for lines in DOCUMENTED.values() for line in lines}))
def test_every_documented_command_is_understood(line):
    command, words = get_command(app), shlex.split(line.partition(" > ")[0])
    context = command.make_context("hwtune", words, resilient_parsing=False)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, parent=context)  # parses, without running


def test_commands_are_documented():
    assert len(DOCUMENTED["README.md"]) >= 25
    assert all(DOCUMENTED[page] for page in ("clusters.md", "kuberay.yaml"))


def test_the_cluster_on_kubernetes_runs_the_ray_that_was_tested():
    said = re.search(r'rayVersion: "(.*)"', (ROOT / "docs" / "kuberay.yaml").read_text())
    assert f"ray=={said[1]}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_result_table_is_made_from_the_studies():
    script = [sys.executable, ROOT / "scripts" / "results_table", "--check"]
    assert subprocess.run(script).returncode == 0, "run scripts/results_table"


def test_committed_searches_took_about_as_long_as_was_foreseen():
    """Those that one command brought to their end: within 30 percent."""
    told = [
        (runs[0]["forecast"]["seconds"], runs[0]["seconds"])
        for path in kept("study.json", "results/chinese_cnn-*")
        for runs in [json.loads(path.read_text(encoding="utf-8")).get("runs", [])]
        if len(runs) == 1 and "forecast" in runs[0]
    ]
    assert len(told) >= 2
    assert all(abs(foreseen / took - 1) <= 0.3 for foreseen, took in told), told


def test_what_the_guide_says_of_few_pictures_is_computed():
    said = re.findall(r"(\d+) of \1 (?:read correctly .*?)?as low as ([\d.]+) %", GUIDE)
    assert len(said) == 2
    for images, shown in said:
        assert f"{100 * wilson_interval(1.0, int(images))[0]:.1f}" == shown


def test_every_path_in_the_tree_is_there():
    tree = README.split("```")[-2]
    for line in tree.strip().splitlines():
        name = line.split()[0]
        assert (ROOT / name).exists() or (ROOT / "hwtune" / name).exists(), name


def test_the_page_on_spaces_lists_every_hyperparameter_with_its_default():
    page = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", page, re.MULTILINE))
    defaults = TrialConfig().to_dict()
    assert listed == {
        name: f"{v:g}" if type(v) is float else str(v) for name, v in defaults.items()
    }


def test_the_examples_of_the_page_on_spaces_are_spaces(tmp_path):
    page = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    texts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, text in zip(("my_space", "letters"), texts, strict=True):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert load_space(str(tmp_path / "my_space.py")).baselines
    letters = load_space(str(tmp_path / "letters.py"))
    assert (letters.name, letters.data, letters.baselines) == ("letters", "letters", {})
