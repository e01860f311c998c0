"""Make `trials.csv` anew from what it is made from, where it does not read or may be behind."""

from __future__ import annotations

from hwtune.contract import About
from hwtune.errors import StudyError
from hwtune.search.attributes import COST
from hwtune.search.journal import proposed
from hwtune.search.ledger import Ledger
from hwtune.space import space_from_json
from hwtune.study_folder import StudyFolder


def mend_trials(folder: StudyFolder, about: About) -> bool:
    """Make `trials.csv` anew where it is gone or does not read; return whether it was.

    Raises:
        StudyError: when what it is made from is gone, too.
    """
    try:
        folder.read_trials()
    except StudyError:
        if not folder.journal.is_file():
            raise
        remake_trials(folder, about)
        return True
    return False


def remake_trials(folder: StudyFolder, about: About) -> None:
    """Make `trials.csv` anew from the journal and `epochs.csv`.

    Raises:
        StudyError: when one of them does not read.
    """
    trials = proposed(folder)
    begun = {trial.number for trial in trials if COST in trial.user_attrs}
    epochs = [epoch for epoch in folder.read_epochs() if epoch.trial in begun]
    images = about["split"]["counts"]["train"]
    Ledger(folder, space_from_json(about["space"]), images=images).restore(trials, epochs)
