"""The order in which the files of a study are copied, so that a copy can always be resumed."""

from __future__ import annotations

STUDY, CHECKPOINTS = "study.json", "checkpoints"
# A copy's epochs are never newer than its states, or a resume would train some anew; its journal
# never newer than its epochs, or a trial that is over would lack some; its study.json never newer
# than the rest, or a study would be complete that lacks its test or its model. They are sent in
# this order, study.json last of all, and read in the opposite one. The rest a resume mends: it
# forgets epochs and states of trials that the journal lacks, takes from a state the epochs that the
# records lack, and trains on from there.
SENT_FIRST = (CHECKPOINTS, "epochs.csv", "optuna.journal")
READ_FIRST = (STUDY, "optuna.journal", "epochs.csv")


def rank(name: str) -> tuple[int, str]:
    """Return the place of a file in the order of uploads."""
    first = name.split("/")[0]
    places = len(SENT_FIRST)
    return SENT_FIRST.index(first) if first in SENT_FIRST else places + (name == STUDY), name
