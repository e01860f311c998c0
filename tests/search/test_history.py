import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hwtune.search import history
from hwtune.search.history import Bounded, few
from hwtune.search.samplers import make_sampler

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def told(study, *values, x=0.5):
    study.enqueue_trial({"x": x})
    trial = study.ask(SPACE)
    if values:
        study.tell(trial, list(values))
    else:
        trial.report(0.5, 1)
        study.tell(trial, state=TrialState.PRUNED)


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(history, "BEST", 3)
    return optuna.create_study(direction="maximize")


def test_a_sampler_sees_the_best_and_the_latest_of_many_trials(study):
    for number in range(40):
        if number % 2:
            told(study, 0.99 if number in (5, 7, 9) else 0.5)
        else:
            told(study)
    running = study.ask(SPACE).number
    numbers = [t.number for t in few(study.get_trials(), 10, study.directions)]
    assert numbers == [5, 7, 9, *range(33, 40), running]


def test_few_trials_are_all_seen(study):
    for _ in range(5):
        told(study, 0.5)
    assert few(study.get_trials(), 5, study.directions) == study.get_trials()


def test_with_several_objectives_the_front_stays_then_the_latest_complete(monkeypatch):
    monkeypatch.setattr(history, "BEST", 3)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values in ((0.9, 2.0), (0.8, 1.0), (0.7, 1.5), (0.8, 2.5), (0.5, 1.0)):
        told(study, *values)
    for _ in range(10):
        told_pruned = study.ask(SPACE)
        study.tell(told_pruned, state=TrialState.PRUNED)
    numbers = [t.number for t in few(study.get_trials(), 6, study.directions)]
    assert numbers == [0, 1, 4, 12, 13, 14]


def test_what_is_hidden_is_not_seen(study):
    for number in range(30):
        told(study, 1 - abs(number / 30 - 0.4), x=number / 30)
    alone = optuna.create_study(direction="maximize")
    alone.add_trials([t for t in study.get_trials() if t.number % 2])
    sampler = make_sampler("tpe", seed=3, trial=30, parallel=False, hidden=range(0, 30, 2))
    study.sampler, alone.sampler = sampler, make_sampler("tpe", seed=3, trial=30, parallel=False)
    assert study.ask(SPACE).params == alone.ask(SPACE).params


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_bounded_sampler_proposes_what_it_would_on_those_trials_alone(study, name):
    for number in range(30):
        told(study, 1 - abs(number / 30 - 0.4), x=number / 30)
    alone = optuna.create_study(direction="maximize")
    alone.add_trials(few(study.get_trials(), 20, study.directions))
    values = []
    for each, wrap in ((study, True), (alone, False)):
        make = make_sampler(name, seed=3, trial=30, parallel=False).make
        each.sampler = Bounded(make, 20) if wrap else make(0)
        values.append(each.ask(SPACE).params["x"])
    assert values[0] == values[1]
