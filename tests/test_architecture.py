import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_point_down_and_the_test_set_is_sealed():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_help_needs_neither_torch_nor_ray():
    script = (
        "import sys\n"
        "from hwtune.cli import app\n"
        "try: app(['search', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'ray', 'optuna'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
