"""How much each hyperparameter mattered, by Optuna's measure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from hwtune.records import TrialRecord
from hwtune.space import SearchSpace

FEWEST, MOST = 2, 300  # trials: for each hyperparameter; in all, since time grows faster than them


def importances(space: SearchSpace, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Return the share of each hyperparameter in the variance of the accuracy, the largest first.

    It is Optuna's fANOVA (Hutter, Hoos, Leyton-Brown, An Efficient Approach for Assessing
    Hyperparameter Importance, 2014), over at most `MOST` trials. Too few trials for so many
    hyperparameters, or all with the same accuracy, give nothing.

    Args:
        trials: with accuracies that compare: after as many epochs, or in full.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    known = [t for t in trials if t.best_epoch and math.isfinite(t.val_accuracy)]
    tried = [t for t in known if not t.diverged]  # whatever it read before
    tried = random.Random(0).sample(tried, min(len(tried), MOST))
    if len(tried) < FEWEST * len(space.search) or len({t.val_accuracy for t in tried}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials([
        optuna.trial.create_trial(
            params=space.parse(t.config), distributions=dict(space.search), value=t.val_accuracy
        )
        for t in tried
    ])  # fmt: skip
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
