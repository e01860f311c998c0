"""Run hwtune's command line: `python -m hwtune`."""

from hwtune.cli import main

if __name__ == "__main__":
    main()
