"""Searching: the bridge between Ray Tune, which runs trials, and Optuna, which proposes them."""

import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)  # its line a trial drowns the terminal
