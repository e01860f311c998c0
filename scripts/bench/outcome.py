"""How every benchmark tells what it measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwtune.hardware import git_commit, hardware, versions

RESULTS = Path(__file__).resolve().parents[2] / "results" / "bench"


def publish(name: str, text: str, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Print a page, and write it with its figures and their origin to `results/bench/NAME.*`."""
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    about = {
        **more, "rows": list(rows), "hardware": hardware(), "versions": versions(),
        "git_commit": git_commit(),
    }  # fmt: skip
    content = json.dumps(about, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
