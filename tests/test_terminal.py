"""The live display, seen in a real (pseudo-)terminal."""

import os
import pty
import re
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ

import pyte
import pytest

from hwtune.cluster import usable_cpus

pytestmark = pytest.mark.slow
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def seen(folder, *, columns=100, rows=30, trials=6, **environment):
    """Search in a terminal; return its screens over time, all bytes, and the last screen."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "hwtune", "search", "digits_cnn", "--trials", str(trials),
         "--seeds", "1", "--parallel", "2", "--results", str(folder)],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment},
    )  # fmt: skip
    os.close(theirs)
    frames, raw = [], b""
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
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return frames, raw.decode(errors="replace"), frames[-1]


def test_the_display_shows_what_runs_and_what_is_best(tmp_path):
    frames, raw, last = seen(tmp_path)
    live = [frame for frame in frames if "searching" in frame]
    assert any(re.search(r"trial \d+ .* [1-9] of 9 .*%.*[▁▂▃▄▅▆▇█]", frame) for frame in live)
    assert any("best so far" in frame and "complete" in frame for frame in live)
    assert any(f"2 at once on {usable_cpus()} CPU" in frame for frame in live)
    assert any(" left" in frame for frame in live)
    assert any("TensorBoard: " in frame and "Ray dashboard: " in frame for frame in live)
    assert "searching" not in last, "the display leaves the screen"
    assert "Test: " in last
    assert "Report: " in last
    assert "WARNING" not in raw
    assert "ray." not in raw.replace("ray.html", "")


def test_a_tiny_terminal_without_colours_or_unicode_is_enough(tmp_path):
    frames, raw, _ = seen(
        tmp_path, columns=34, rows=8, trials=3, NO_COLOR="1", LC_ALL="C", PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert any("searching" in frame for frame in frames)
    assert raw.isascii()
    colours = {code for code in COLOUR.findall(raw) if re.search(r"[34]\d|9\d", code)}
    assert not colours
