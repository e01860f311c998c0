"""The live display, seen in a real (pseudo-)terminal."""

import html
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pyte
import pytest
from playwright.sync_api import sync_playwright

from hwtune.cluster import usable_cpus
from tests.conftest import COLOUR, keep_picture

pytestmark = pytest.mark.slow
RESULTS = Path(__file__).parent.parent / "results"
COLOURS = {"default": "#d8dce4", "red": "#e06c75", "green": "#7fbf7f", "brown": "#e5c07b",
           "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d8dce4",
           "brightblack": "#5c6370", "black": "#1c1f26"}  # fmt: skip
TERMINAL = "margin:0;padding:14px;font:14px/1.35 'DejaVu Sans Mono',monospace;width:max-content"


SEARCH = ("search", "digits_cnn", "--seeds", "1", "--parallel", "2", "--results", "results")
STUDIES = [str(RESULTS / name) for name in ("chinese_cnn-hour", "mnist_cnn-hour")]


def seen(folder, *words, columns=100, rows=30, **environment):
    """Run a command in a terminal; return its screens, all bytes, and the last screen."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "hwtune", *words], cwd=folder,
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment},
    )  # fmt: skip
    os.close(theirs)
    frames, raw, page = [], b"", ""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            raw += piece
            stream.feed(piece)
            frames.append("\n".join(screen.display))
            if "2 running" in frames[-1] and "best so far" in frames[-1] and columns == 100:
                page = as_page(screen)
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    if page:
        keep_picture("terminal", lambda: photograph(page))
    return frames, raw.decode(errors="replace"), frames[-1]


def as_page(screen):
    """Return a terminal's screen as a page, in the colours of a dark terminal."""
    lines = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        lines.append("".join(
            f'<span style="color:{COLOURS.get(c.fg, c.fg)};font-weight:{700 if c.bold else 400}">'
            f"{html.escape(c.data)}</span>"
            for c in cells
        ))  # fmt: skip
    text = "\n".join(lines[: len("\n".join(screen.display).rstrip().splitlines())])
    return f'<body style="margin:0;background:#1c1f26"><pre style="{TERMINAL}">{text}</pre>'


def photograph(page):
    """Return a picture of a page, by a real browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        sheet = browser.new_page(viewport={"width": 960, "height": 400})
        sheet.set_content(page)
        picture = sheet.locator("pre").screenshot()
        browser.close()
    return picture


def test_the_display_shows_what_runs_and_what_is_best(tmp_path):
    frames, raw, last = seen(tmp_path, *SEARCH, "--trials", "6", "--scheduler", "none")
    live = [frame for frame in frames if "searching" in frame]
    assert any(re.search(r"trial \d+ .* [1-9] of 9 .*%.*[▁▂▃▄▅▆▇█]", frame) for frame in live)
    assert any("best so far" in frame and "complete" in frame for frame in live)
    assert any(f"2 at once on {usable_cpus()} CPU" in frame for frame in live)
    assert any(" left" in frame for frame in live)
    assert any("TensorBoard: " in frame and "Ray dashboard: " in frame for frame in live)
    assert "searching" not in last, "the display leaves the screen"
    assert "Test: " in last
    assert "Report: results/digits_cnn/report.html" in last
    assert "WARNING" not in raw
    assert "ray." not in raw.replace("ray.html", "")


def test_a_tiny_terminal_without_colours_or_unicode_is_enough(tmp_path):
    frames, raw, _ = seen(
        tmp_path, *SEARCH, "--trials", "3", columns=34, rows=8, NO_COLOR="1", LC_ALL="C",
        PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert any("searching" in frame for frame in frames)
    assert raw.isascii()
    colours = {code for code in COLOUR.findall(raw) if re.search(r"[34]\d|9\d", code)}
    assert not colours


def test_a_leaderboard_fits_a_terminal_and_cuts_no_name(tmp_path):
    _, _, last = seen(tmp_path, "trials", STUDIES[0], columns=80, rows=200)
    tested = json.loads((Path(STUDIES[0]) / "retrain.json").read_text())["configurations"][0]
    unseen = f"{tested['test_accuracy']['mean']:.2%} of 1,500 unseen"
    for words in ("0 oafarih", "3 lazhili8_cnn_nopool", "4,222,831", unseen):
        assert words in last
    assert "…" not in last


def test_a_list_of_studies_fits_a_terminal(tmp_path):
    for columns in (80, 120):
        options = "studies", "--results", Path(STUDIES[0]).parent
        _, _, last = seen(tmp_path, *options, columns=columns, rows=80)
        for words in ("chinese_cnn-default", "chinese_mnist", "complete", "99.80%"):
            assert words in last
        assert "…" not in last
        assert ("pooling" in last) == (columns == 120)
        if columns == 80:
            assert sum(map(bool, map(str.strip, last.splitlines()))) < 15, "a line a study"


def test_studies_side_by_side_fit_a_terminal(tmp_path):
    _, _, last = seen(tmp_path, "compare", *STUDIES, columns=80, rows=80)
    assert "chinese_cnn-hour" in last
    assert "99.72%" in last
    assert "…" not in last
