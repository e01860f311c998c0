import pytest

from hwtune.records import EpochRecord, TrialRecord
from hwtune.search.checkpoints import Retention
from hwtune.states import StateStore, state_file


def trial(number, accuracy, state="complete"):
    record = TrialRecord(number, state=state)
    record.add(EpochRecord(number, 1, 0.1, 0.1, accuracy, 0.1, 1.0))
    return record


def kept(folder):
    return sorted(int(path.stem) for path in folder.iterdir())


@pytest.fixture
def store(tmp_path):
    return StateStore(str(tmp_path))


def test_a_state_is_replaced_and_read_back(store, tmp_path):
    assert store.load(3) is None
    assert store.save(3, b"one") == store.save(3, b"two") == ""
    assert store.load(3) == b"two"
    assert kept(tmp_path) == [3]


def test_a_refused_write_is_reported_and_leaves_the_last_state(store, tmp_path):
    store.save(3, b"one")
    (tmp_path / "4.pt").mkdir()  # in the way
    assert store.save(4, b"two") == "Is a directory"
    tmp_path.rename(tmp_path.with_name("moved"))
    assert "moved away" in store.save(3, b"two")
    assert StateStore(str(tmp_path.with_name("moved"))).load(3) == b"one"


def test_the_best_states_are_kept_under_the_limit(store, tmp_path):
    retention = Retention(tmp_path, 350)
    for number, accuracy in enumerate([0.5, 0.9, 0.7, 0.8, 0.6]):
        store.save(number, bytes(100))
        retention.ended(trial(number, accuracy))
        retention.trim([])
    assert kept(tmp_path) == [1, 2, 3]


def test_running_trials_keep_theirs_and_count(store, tmp_path):
    store.save(9, bytes(300))
    retention = Retention(tmp_path, 350)
    store.save(0, bytes(100))
    retention.ended(trial(0, 0.99))
    retention.trim([9])
    assert kept(tmp_path) == [9]


def test_what_the_end_of_a_search_cut_off_keeps_its_state_and_counts(store, tmp_path):
    retention = Retention(tmp_path, 250)
    for number, accuracy in enumerate([0.1, 0.9, 0.8]):
        store.save(number, bytes(100))
        retention.ended(trial(number, accuracy), cut_off=number == 0)
        retention.trim([])
    assert kept(tmp_path) == [0, 1]


def test_a_failed_trial_keeps_none(store, tmp_path):
    store.save(0, bytes(100))
    retention = Retention(tmp_path, 350)
    retention.ended(trial(0, 0.99, "failed"))
    assert not state_file(tmp_path, 0).exists()
    assert retention.total == 0
