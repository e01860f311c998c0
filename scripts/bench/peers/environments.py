"""A virtual environment for each tuner, which shares the packages of this one."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

REQUIREMENTS = {  # what hwtune's own environment lacks; keras-tuner does not declare six
    "syne_tune_asha": ("syne-tune==0.16.0",),
    "keras_tuner_hyperband": ("keras-tuner==1.4.8", "keras==3.15.1", "six"),
}


def make_environment(peer: str, folder: Path) -> Path:
    """Return the Python of a tuner's environment; what is there and complete is not made again."""
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        print(f"Making the environment of {peer}.", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        place = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (place / "shared.pth").write_text(line, encoding="utf-8")
        if needed := REQUIREMENTS.get(peer):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True)
        done.touch()
    return python
