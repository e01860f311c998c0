"""Searching: the bridge between Ray Tune, which runs trials, and Optuna, which proposes them."""
