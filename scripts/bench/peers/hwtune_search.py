"""hwtune as its README shows it: TPE, ASHA, one trial a core."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from hwtune.study_folder import StudyFolder
from scripts.bench.peers.task import SPACE, WORKERS, Event, write


def main() -> None:
    """Search until killed."""
    folder, seed = Path(sys.argv[1]), sys.argv[2]
    space = folder / "peers.py"
    space.write_text("from scripts.bench.peers.task import SPACE as SPACE\n", encoding="utf-8")
    words = [
        sys.executable, "-m", "hwtune", "search", str(space), "--seed", seed,
        "--data", SPACE.data, "--trials", "100000", "--parallel", str(WORKERS),
        "--results", str(folder), "--name", "study",
    ]  # fmt: skip
    process = subprocess.Popen(words)
    try:
        record(StudyFolder(folder / "study"), process, folder / "events.jsonl")
    finally:
        process.terminate()
        process.wait()


def record(study: StudyFolder, process: subprocess.Popen[bytes], events: Path) -> None:
    """Write down each epoch as it appears in the study's records, as long as a process lives."""
    seen = 0
    while process.poll() is None:
        time.sleep(0.2)
        if not study.epochs.exists():
            continue
        points = {each.trial: SPACE.parse(each.config) for each in study.read_trials()}
        epochs = study.read_epochs()
        for each in epochs[seen:]:
            if each.trial not in points:
                break  # its line in trials.csv is on its way
            write(events, Event(
                time.time(), str(each.trial), each.epoch, each.val_accuracy, each.seconds,
                points[each.trial],
            ))  # fmt: skip
            seen += 1


if __name__ == "__main__":
    main()
