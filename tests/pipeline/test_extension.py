import pytest

from hwtune.errors import OptionError
from hwtune.pipeline.extension import check_extension, extended_budget
from hwtune.search.budget import Budget

OLD = Budget(trials=None, epochs=9, seconds=900.0, target=0.9)


@pytest.mark.parametrize(
    ("old", "done", "wish", "expected"),
    [
        (OLD, 7, {}, OLD),
        (OLD, 7, {"trials": 400}, Budget(trials=400, epochs=9, target=0.9)),
        (OLD, 7, {"seconds": 60.0}, Budget(epochs=9, seconds=160.0, target=0.9, before=100)),
        (Budget().filled(), 50, {"seconds": 60.0}, Budget(seconds=160.0, before=100)),
        (
            Budget(seconds=160.0, before=90),
            7,
            {"target": 0.99},
            Budget(seconds=160.0, before=90, target=0.99),
        ),
        (Budget(target=0.8), 7, {"trials": 400}, Budget(trials=400)),  # which was reached
        (Budget(trials=8), 8, {"target": 0.99}, Budget(trials=58, target=0.99)),
        (Budget(trials=8), 3, {"target": 0.99}, Budget(trials=8, target=0.99)),
        (Budget(seconds=900.0), 7, {"target": 0.99}, Budget(seconds=900.0, target=0.99)),
        # The 90 seconds are spent, and 50 more trials are the bound.
        (Budget(seconds=90.0), 7, {"target": 0.99}, Budget(trials=57, target=0.99)),
    ],
)
def test_a_study_is_extended_by_what_is_wished(old, done, wish, expected):
    more = Budget(**wish)
    assert extended_budget(old, more, done=done, spent=100.0, best=0.85, ended=False) == expected


@pytest.mark.parametrize(
    ("old", "trials"), [(Budget(seconds=900.0), 57), (Budget(trials=9, seconds=900.0), 9)]
)
def test_a_study_that_ended_has_no_time_left_for_a_higher_target(old, trials):
    more = Budget(target=0.99)
    extended = extended_budget(old, more, done=7, spent=845.0, best=0.85, ended=True)
    assert extended == Budget(trials=trials, target=0.99)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"trials": 7}, "--trials 7 leaves nothing to search: 7 were begun"),
        ({"target": 0.85}, "--target 0.85 leaves nothing to search: 0.8500 is reached"),
    ],
)
def test_an_extension_that_leaves_nothing_to_search_is_refused(wish, message):
    with pytest.raises(OptionError, match=message):
        check_extension(Budget(**wish), done=7, best=0.85)
