import math

import pytest

from hwtune.errors import StudyError
from hwtune.records import (
    EpochRecord,
    StudyFolder,
    TrialRecord,
    create_study,
    dump,
    find_study,
    once_each,
    pareto_front,
    ranked,
)


def epoch(trial, number, accuracy, loss=0.5):
    return EpochRecord(trial, number, 0.1, loss, accuracy, 1e-3, 2.0)


def trial(number, accuracy, *, state="complete", loss=0.5, parameters=10):
    record = TrialRecord(number, state=state, parameters=parameters)
    record.add(epoch(number, 1, accuracy, loss))
    return record


def test_of_a_baseline_that_was_trained_twice_the_longer_training_counts():
    def trained(number, baseline, epochs, accuracy):
        return TrialRecord(
            number, baseline, epochs=epochs, best_epoch=epochs, val_accuracy=accuracy
        )

    order = ranked(
        [trained(0, "old", 2, 0.9), trained(1, "", 3, 0.8), trained(2, "", 3, 0.7),
         trained(3, "old", 3, 0.6), trained(4, "other", 1, 0.5)]
    )  # fmt: skip
    assert [each.trial for each in once_each(order)] == [1, 2, 3, 4]


def test_a_trial_keeps_its_best_epoch_by_accuracy_then_loss():
    record = TrialRecord(0)
    for number, (accuracy, loss) in enumerate([(0.8, 0.5), (0.9, 0.4), (0.9, 0.3), (0.9, 0.6)], 1):
        record.add(epoch(0, number, accuracy, loss))
    assert (record.best_epoch, record.val_loss, record.epochs, record.seconds) == (3, 0.3, 4, 8.0)


def test_ties_are_broken_by_loss_then_parameters():
    order = ranked(
        [
            trial(0, 0.9, loss=0.5),
            trial(1, 0.9, loss=0.4, parameters=20),
            trial(2, 0.9, loss=0.4, parameters=10),
            trial(3, 0.99, state="stopped"),
            trial(4, 1.0, state="failed"),
            TrialRecord(5),
        ]
    )
    assert [t.trial for t in order] == [3, 2, 1, 0]


def test_without_a_name_a_free_one_is_chosen(tmp_path):
    names = [create_study(tmp_path / "results", None, "digits_cnn").name for _ in range(3)]
    assert names == ["digits_cnn", "digits_cnn-2", "digits_cnn-3"]


def test_a_name_that_exists_is_refused(tmp_path):
    create_study(tmp_path, "mine", "digits_cnn")
    with pytest.raises(StudyError, match="exists already"):
        create_study(tmp_path, "mine", "digits_cnn")


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", ""])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(StudyError, match="plain folder name"):
        create_study(tmp_path, name, "digits_cnn")


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(StudyError):
        create_study(tmp_path / "results", None, "digits_cnn")


def test_a_torn_last_line_of_epochs_is_left_out(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.append_epoch(epoch(0, 1, 0.5))
    with (folder.path / "epochs.csv").open("a") as file:
        file.write("0,2,0.1,0.")
    assert folder.read_epochs() == [epoch(0, 1, 0.5)]


def test_trials_come_back_as_they_were_written(tmp_path):
    folder = create_study(tmp_path, None, "s")
    record = TrialRecord(3, "oafarih", "stopped", reason='a "reason", with comma', parameters=7)
    record.config = {"lr": 0.1 + 0.2, "pool": "max"}
    folder.append_epoch(epoch(3, 1, 0.5))
    record.add(epoch(3, 1, 0.5))
    folder.write_trials([record], ["lr", "pool"])
    (read,) = folder.read_trials()
    assert read.config == {"lr": "0.30000000000000004", "pool": "max"}
    read.config = record.config
    assert read == record


def test_a_study_held_by_a_living_process_is_refused(tmp_path):
    folder = create_study(tmp_path, None, "s")
    with folder.locked(), pytest.raises(StudyError, match="another process"):  # noqa: SIM117
        with StudyFolder(folder.path).locked():
            pass


def test_an_unknown_study_is_named_with_the_known_ones(tmp_path):
    create_study(tmp_path, "mine", "s").write_study({"format": 1})
    with pytest.raises(StudyError, match="'yours'.*mine"):
        find_study(tmp_path, "yours")


def test_a_study_of_a_newer_format_is_refused(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.write_study({"format": 99})
    with pytest.raises(StudyError, match="newer hwtune"):
        folder.read_study()


def test_json_holds_null_where_a_number_is_not_finite():
    assert dump({"a": [math.nan, 1.0]}) == '{\n "a": [\n  null,\n  1.0\n ]\n}\n'


def test_writing_leaves_no_temporary_file(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.write_study({"format": 1})
    assert not [p.name for p in folder.path.iterdir() if p.name.startswith(".")]


def test_what_the_journal_does_not_know_is_forgotten(tmp_path):
    folder = create_study(tmp_path, None, "s")
    for trial in (0, 1, 0):
        folder.append_epoch(EpochRecord(trial, 1, 0.1, 0.2, 0.123457, 0.1, 1.0))
        (folder.checkpoints / f"{trial}.pt").touch()
    folder.forget_unknown({0})
    assert [epoch.trial for epoch in folder.read_epochs()] == [0, 0]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["0.pt"]


def test_torn_lines_and_the_leavings_of_a_killed_process_are_cleaned_up(tmp_path):
    folder = create_study(tmp_path, None, "s")
    head = (folder.path / "epochs.csv").read_text()
    (folder.path / "epochs.csv").write_text(head + "0,1,0.5")
    folder.journal.write_text("x" * 100_000)  # one line, never ended
    leavings = [
        folder.path / ".123-trials.csv", folder.path / "optuna.journal.lock",
        folder.checkpoints / ".77-3",
    ]  # fmt: skip
    for path in leavings:
        path.touch()
    leavings.append(folder.path / ".88-retraining")
    (leavings[-1] / "inside").mkdir(parents=True)
    folder.repair()
    assert (folder.path / "epochs.csv").read_text() == head
    assert folder.journal.read_text() == ""
    assert not any(path.exists() for path in leavings)


def test_a_study_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        create_study(tmp_path, "s", "s", about={"format": object()})
    assert not list(tmp_path.iterdir())
    folder = create_study(tmp_path, "s", "s", about={"format": 1}, source="SPACE\n")
    assert folder.read_study() == {"format": 1, "study": "s"}
    assert (folder.path / "space.py").read_text() == "SPACE\n"


def test_the_pareto_front_is_what_no_trial_beats():
    trials = []
    for number, (accuracy, parameters) in enumerate(
        [(0.9, 100), (0.8, 10), (0.85, 100), (0.7, 10)]
    ):
        trials.append(TrialRecord(number, parameters=parameters))
        trials[-1].add(EpochRecord(number, 1, 0.1, 0.2, accuracy, 0.1, 1.0))
    assert pareto_front(trials, ("val_accuracy", "parameters")) == [0, 1]
    assert pareto_front(trials, ("val_accuracy",)) == [0]


def test_a_study_elsewhere_is_called_by_its_path(tmp_path, monkeypatch):
    folder = create_study(tmp_path / "some where", None, "s")
    assert folder.called == f"'{tmp_path}/some where/s'"
    monkeypatch.setenv("HWTUNE_RESULTS", str(tmp_path / "some where"))
    assert folder.called == "s"
    assert create_study(tmp_path / "some where", "my s", "s").called == "'my s'"
