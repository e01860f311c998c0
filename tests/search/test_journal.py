"""Optuna's journal, written line by line or many lines in one go."""

import json
import os
import threading

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from hwtune.errors import StudyError
from hwtune.files import cut_to_last_newline
from hwtune.results import create_study
from hwtune.search.journal import Journal, journal_of, together

SPACE = {
    "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "filters": optuna.distributions.CategoricalDistribution(("4-8", "8-16")),
    "epochs": optuna.distributions.IntDistribution(1, 9),
}


def study_in(path, backend=Journal):
    """Return the study of a journal, made if it is not there."""
    return optuna.create_study(
        study_name="s", storage=JournalStorage(backend(str(path))), load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize",
    )  # fmt: skip


def optunas_own(path):
    return JournalFileBackend(path, JournalFileOpenLock(path))


def run_trial(study, accuracy):
    """Ask for a trial and tell it as the searcher does."""
    with together(study):
        trial = study.ask(dict(SPACE))
    trial.report(accuracy, 1)
    with together(study):
        trial.set_user_attr("ended", {"state": "complete", "values": [accuracy]})
        study.tell(trial, accuracy)
    return trial


def what_trials_say(study):
    return [(t.number, t.state, t.params, t.values, t.user_attrs, t.intermediate_values)
            for t in study.get_trials()]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def test_what_is_written_together_reads_as_optuna_would_have_written_it(path, tmp_path):
    study, plain = study_in(path), study_in(tmp_path / "plain", optunas_own)
    for accuracy in (0.25, 0.5, 0.75):
        run_trial(study, accuracy)
        trial = plain.ask(dict(SPACE))
        trial.report(accuracy, 1)
        trial.set_user_attr("ended", {"state": "complete", "values": [accuracy]})
        plain.tell(trial, accuracy)
    lines = [len(each.read_bytes().splitlines()) for each in (path, tmp_path / "plain")]
    assert lines[0] == lines[1]
    assert what_trials_say(study) == what_trials_say(plain)
    assert what_trials_say(study_in(path, optunas_own)) == what_trials_say(plain)


def test_a_proposal_waits_for_the_disk_once(path, monkeypatch):
    study, waits = study_in(path), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (waits.append(file), fsync(file)))
    with together(study):
        before = path.read_bytes()
        trial = study.ask(dict(SPACE))
        assert trial.params == study.trials[0].params  # known here, not yet on the disk
        assert path.read_bytes() == before
        assert not waits
    assert len(waits) == 1
    assert study_in(path).trials[0].params == trial.params


def test_what_was_told_before_an_error_is_kept(path):
    study = study_in(path)

    def interrupted():
        with together(study):
            study.ask(dict(SPACE))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(study_in(path).trials) == 1
    run_trial(study, 0.5)
    assert what_trials_say(study_in(path)) == what_trials_say(study)
    assert not list(path.parent.glob("*.lock*"))


def test_what_another_process_wrote_is_read_in_its_place(path):
    study, other = study_in(path), study_in(path, optunas_own)
    run_trial(study, 0.25)
    other.set_user_attr("note", "from a dashboard")
    other.enqueue_trial({"epochs": 3})
    assert run_trial(study, 0.5).params["epochs"] == 3
    other.set_user_attr("note", "another")
    run_trial(study, 0.75)
    assert study.user_attrs == {"note": "another"}
    assert what_trials_say(study) == what_trials_say(other) == what_trials_say(study_in(path))


def test_half_a_line_of_another_process_is_not_gone_on_with_by_a_line_of_its_own(path):
    study = study_in(path)
    with together(study):
        trial = study.ask(dict(SPACE))
    with path.open("ab") as file:
        file.write(b'{"op')  # and died
    with pytest.raises(OSError, match="half a line"):
        trial.report(0.5, 1)
    cut_to_last_newline(path)
    assert [each.params for each in study_in(path).trials] == [trial.params]


def test_no_line_is_read_twice_however_many_there_are(path, monkeypatch):
    study, read = study_in(path), []
    trials = [run_trial(study, 0.5) for _ in range(20)]
    with together(study):
        trials.append(study.ask(dict(SPACE)))
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda line, **more: (read.append(line), loads(line))[1])
    for epoch in (1, 2, 3):
        trials[-1].report(0.5, epoch)
    assert len(read) <= 2 * 3


def test_another_process_waits_until_the_end_of_a_block(path):
    study, other = study_in(path), study_in(path, optunas_own)
    writer = threading.Thread(target=other.set_user_attr, args=("note", "waited"))
    with together(study):
        trial = study.ask(dict(SPACE))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        trial.set_user_attr("cost", [1, 2])
    writer.join()
    study.tell(trial, 0.5)
    assert study.user_attrs == {"note": "waited"}
    assert what_trials_say(study) == what_trials_say(study_in(path, optunas_own))


def test_half_a_line_of_another_process_is_not_gone_on_with(path):
    study = study_in(path)
    run_trial(study, 0.5)
    with path.open("ab") as file:
        file.write(b'{"op')
    before = path.read_bytes()
    with pytest.raises(OSError, match="half a line"):
        run_trial(study, 0.75)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.lock*"))


def test_a_journal_that_nests_too_deeply_is_named(tmp_path):
    folder = create_study(tmp_path, None, "s")
    folder.journal.write_text('{"op_code": 0, "more": ' + "[" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(StudyError, match="journal.* cannot be read"):
        journal_of(folder)
