import pickle

import numpy as np
import optuna
import pytest

from hwtune.errors import StudyError
from hwtune.search.cma_states import check_states
from hwtune.search.samplers import make_sampler


class Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def holding(state):
    """Return a trial of a journal, with a state of CMA-ES in two parts."""
    text = state.hex()
    parts = {"cma:optimizer:0": text[:20], "cma:optimizer:1": text[20:]}
    return optuna.trial.create_trial(value=1, system_attrs=parts)


def test_a_foreign_pickle_in_a_journal_is_refused_and_not_run(tmp_path):
    flag = tmp_path / "touched"
    hostile = holding(pickle.dumps(Touches(flag)))
    with pytest.raises(
        StudyError, match="holds (builtins.getattr|pathlib.*), which is not an array"
    ):
        check_states([hostile])
    assert not flag.exists()
    with pytest.raises(StudyError, match="is not its own"):
        check_states([holding(b"no pickle")])


def test_an_array_that_claims_more_bytes_than_it_has_is_refused():
    whole = pickle.dumps(np.arange(8.0))
    check_states([holding(whole)])
    with pytest.raises(StudyError, match="do not fit its shape"):
        check_states([holding(whole.replace(b"K\x08\x85", b"K\x80\x85"))])


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_states_of_cma_es_itself_are_taken(monkeypatch, dimensions):
    monkeypatch.setattr("hwtune.search.samplers.STARTUP_TRIALS", 1)
    study = optuna.create_study()
    for number in range(20):
        study.sampler = make_sampler("cmaes", seed=0, trial=number, parallel=False)
        study.optimize(lambda t: sum(t.suggest_float(f"x{i}", 0, 1) for i in range(dimensions)), 1)
    trials = study.get_trials()
    assert any("cma:optimizer:0" in trial.system_attrs for trial in trials)
    check_states(trials)


class Calls:
    """Is pickled as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.said = (function, arguments, state)

    def __reduce__(self):
        return self.said


def typed(code, state):
    """Return what is pickled as a NumPy type with a state of one's own."""
    return Calls(np.dtype, code, False, True, state=state)


def test_a_type_that_points_at_things_is_refused_whatever_its_state_says():
    buffer = np.arange(8.0).__reduce_ex__(5)[0]
    plain = (3, "<", None, None, None, -1, -1, 0)
    check_states([holding(pickle.dumps(Calls(buffer, b"A" * 8, typed("f8", plain), (1,), "C")))])
    for code, state, why in (
        ("O8", plain, "'O8', which is not a number"),
        ("f8", (*plain[:-1], 63), "more than numbers"),
    ):
        array = Calls(buffer, b"A" * 8, typed(code, state), (1,), "C")
        with pytest.raises(StudyError, match=why):
            check_states([holding(pickle.dumps(array))])
    with pytest.raises(StudyError, match="not made of bytes"):
        check_states([holding(pickle.dumps(Calls(buffer, 9**9, np.dtype("u1"), (9**9,), "C")))])
    reconstruct = np.arange(8.0).__reduce__()[0]
    with pytest.raises(StudyError, match="without content"):
        check_states([holding(pickle.dumps(Calls(reconstruct, np.ndarray, (9**9,), b"b")))])
