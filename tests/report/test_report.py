"""The page of a study, from its files alone and with its data at hand."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwtune.data import load_data
from hwtune.data.add import add_data
from hwtune.data.own import picture_files, writer_names
from hwtune.records import EpochRecord, TrialRecord, too_close
from hwtune.report.choices import axis
from hwtune.report.content import (
    Content,
    answer,
    gains,
    how_trained,
    images_by_class,
    left_out,
    made_elsewhere,
    other_split,
    read_content,
    rivals,
    trials_at_once,
    without_accuracy,
)
from hwtune.report.gallery import gallery, misread_images
from hwtune.report.importance import importances
from hwtune.report.plots import (
    best_so_far,
    class_counts,
    confusion_map,
    learning_curves,
    lowest_errors,
    tradeoff,
)
from hwtune.report.report import (
    by_writer,
    most_confused,
    openings_beside,
    rungs,
    untold,
    worst_classes,
    write_report,
)
from hwtune.report.verdicts import images_tested
from hwtune.report.words import short
from hwtune.results import create_study
from hwtune.space import SearchSpace, choice, load_space, log_uniform
from hwtune.study_folder import StudyFolder

REFERENCE = Path(__file__).parents[2] / "results" / "chinese_cnn-hour"
SPACE = SearchSpace(
    question="?",
    data="digits",
    search={"lr": log_uniform(1e-5, 1e-1), "pool": choice("max", "avg")},
)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of a reference study, whose data is not at hand."""
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "none"))
    folder = tmp_path / "study"
    shutil.copytree(REFERENCE, folder, ignore=lambda _, names: set(names) - {
        "study.json", "trials.csv", "epochs.csv", "retrain.json"})  # fmt: skip
    write_report(StudyFolder(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_page_is_whole_without_the_data(page):
    shown = set(re.findall(r'<div id="(\w+)" class="plotly', page))
    assert shown >= {
        "curves", "progress", "size", "time", "coordinates", "effects", "confusion",
    }  # fmt: skip
    assert "importance" not in shown, "34 trials of 26 hyperparameters tell nothing of it"
    assert "are shown where the data is at hand" in page
    assert "<img" not in page
    assert len(page) < 10_000_000
    assert "<p>trial 22 and trial 35 cannot be told apart: 0.08 points" in page


def test_a_page_tells_why_each_trial_was_stopped(page):
    reasons = [row["reason"] for row in map(vars, StudyFolder(REFERENCE).read_trials())]
    stopped = [reason for reason in reasons if "needed" in reason]
    assert stopped
    assert all(f"<td>{reason}</td>" in page for reason in stopped)


def test_the_rungs_are_those_of_the_scheduler():
    about = json.loads((REFERENCE / "study.json").read_text(encoding="utf-8"))
    assert about["budget"]["epochs"] == 20
    assert rungs(about) == [1, 3, 9]
    assert rungs({**about, "scheduler": {"name": "none"}}) == []


def test_a_gallery_shows_the_images_that_were_misread():
    digits = load_data("digits")
    (first, second) = gallery(
        digits,
        [{"image": 7, "true": 7, "predicted": 1}, {"image": 5, "true": 5, "predicted": 9}],
    )
    assert [(each.true, each.predicted, each.image) for each in (first, second)] == [
        ("5", "9", 5), ("7", "1", 7),
    ]  # fmt: skip
    png = base64.b64decode(first.source.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), digits.images[5])
    assert first.writer is None


def test_of_very_many_misread_images_a_thousand_of_all_classes_are_shown():
    digits = load_data("digits")
    misread = [
        {"image": number, "true": int(label), "predicted": 0}
        for number, label in enumerate(digits.labels[:1001])
    ]
    shown = gallery(digits, misread)
    assert len(shown) == len({each.image for each in shown}) == 1000
    assert {each.true for each in shown} == set("0123456789")
    assert gallery(digits, []) == []


def test_of_many_classes_the_worst_and_the_most_confused_are_shown():
    classes = [f"c{number}" for number in range(150)]
    scores = {name: {"f1": number / 150} for number, name in enumerate(classes)}
    scores["c3"] = {"f1": None}
    worst = list(worst_classes(scores))
    assert len(worst) == 100
    assert worst[:4] == ["c0", "c1", "c2", "c4"]
    assert worst_classes({"a": {"f1": 1.0}}) == {"a": {"f1": 1.0}}
    counts = [{"true": 5, "predicted": n, "count": n} for n in range(70)]
    found = most_confused(counts, classes)
    assert found[0] == ("c5", "c69", 69)
    assert ("c5", "c5", 5) not in most_confused(counts[:9], classes)
    assert len(found) == 50
    assert most_confused([[1, 2], [3, 4]], classes) == []
    bars, histogram = (class_counts([7] * n, classes[:n], "digits").data[0] for n in (100, 101))
    assert (bars.type, histogram.type) == ("bar", "histogram")


def test_of_very_many_trials_the_best_are_drawn_and_the_line_keeps_its_steps():
    trials = [
        TrialRecord(n, state="complete", val_accuracy=1 - n / 5000, best_epoch=1, epochs=1,
                    parameters=9000 - n, seconds=1.0)
        for n in range(4000)
    ]  # fmt: skip
    trials[3000].baseline = "old"
    epochs = [EpochRecord(n, 1, 0.1, 0.2, 1 - n / 5000, 0.1, 60.0) for n in range(3999, -1, -1)]
    points, line = best_so_far(trials, epochs, "digits", slots=[1] * 4000).data
    assert len(points.x) == 2001
    assert (line.x[0], line.x[-1]) == pytest.approx((1 / 60, 4000 / 60))  # hours
    assert list(line.y) == sorted(line.y, reverse=True)
    flat = best_so_far(trials, epochs[::-1], "digits", slots=[1] * 4000).data[1]
    assert list(flat.x) == pytest.approx([1 / 60, 4000 / 60])
    worst = trials[-1].trial
    _, markers = tradeoff(
        trials, [0, worst], "digits", cost=lambda t: t.parameters, title="parameters", form="~s"
    ).data
    assert len(markers.x) == 2002, "the front whole, too"


def test_what_failed_later_is_no_best_so_far():
    trials = [TrialRecord(0, state="failed", best_epoch=1), TrialRecord(1, state="complete")]
    epochs = [
        EpochRecord(n, 1, 0.1, 0.2, accuracy, 0.1, 60.0) for n, accuracy in ((0, 0.99), (1, 0.9))
    ]
    assert lowest_errors(trials, epochs, [1, 1])[1] == [1.0, pytest.approx(0.1)]


def test_what_decides_the_accuracy_is_the_most_important():
    trials = [
        TrialRecord(
            number, epochs=1, best_epoch=1, val_accuracy=0.5 + 0.01 * number,
            config={"lr": 10.0 ** (-5 + number / 10), "pool": ("max", "avg")[number % 2]},
        )
        for number in range(40)
    ]  # fmt: skip
    shares = importances(SPACE, trials)
    assert list(shares) == ["lr", "pool"]
    assert shares["lr"] > 0.9
    lost = [
        replace(t, trial=99 + t.trial, state="failed", reason="diverged at epoch 5: NaN")
        for t in trials[::-1]
    ]
    assert importances(SPACE, [*trials, *lost]) == shares, "whatever they read before"
    assert importances(SPACE, trials[:3]) == {}
    same = [TrialRecord(t.trial, best_epoch=1, val_accuracy=0.5, config=t.config) for t in trials]
    assert importances(SPACE, same) == {}


def test_gains_are_those_of_the_configuration_that_was_tested():
    order = [
        TrialRecord(2, val_accuracy=1.0, best_epoch=1, config={"lr": 2}),
        TrialRecord(1, val_accuracy=0.99, best_epoch=1, config={"lr": 1}),
        TrialRecord(0, "known", val_accuracy=0.9, best_epoch=1, config={"lr": 0}),
    ]

    def content(trials, *tested):
        return Content({}, trials, [], {"configurations": [{"name": name} for name in tested]})

    (row,) = gains(content(order, "trial 1"))
    assert (row["name"], row["gain"]) == ("known", pytest.approx(0.09))
    assert gains(content(order))[0]["gain"] == pytest.approx(0.1)
    assert gains(content([])) == []
    first = TrialRecord(3, "known", state="stopped", epochs=1, val_accuracy=0.95, best_epoch=1)
    again = TrialRecord(4, "known", state="complete", epochs=3, val_accuracy=0.94, best_epoch=1)
    other = TrialRecord(5, "other", epochs=1, val_accuracy=0.93, best_epoch=1, config={"lr": 5})
    rows = gains(content([order[0], first, again, other]))
    assert [(row["name"], row["epochs"]) for row in rows] == [("known", 3), ("other", 1)]


def answered(among, trials, space=SPACE, twins=0, writers=None, **winner):
    """Return the answer of a study with so many trials, whose winner was one of the first."""
    order = [
        TrialRecord(number, val_accuracy=0.9, best_epoch=1, config=point)
        for number, point in enumerate(
            {"lr": 10.0**-n, "pool": "max"} for n in range(1, 1 + trials)
        )
    ]
    test = {"mean": 0.98, "low": 0.97, "high": 0.99}
    entry = {"name": "trial 0", "seeds": [0, 1], "test_accuracy": test, "test_images": 100,
             "parameters": 10, "chosen_among": among, "baseline": "",
             "confusion": [[50, 0], [2, 48]],
             **winner}  # fmt: skip
    data = {"name": "digits", "classes": ["odd", "even"]}
    about = {"baseline": None, "data": data, "space": space.to_json()}
    tested = {"configurations": [entry], "leaks": {"images": twins, "writers": writers}}
    return answer(Content(about, order, [], tested))


def test_the_answer_counts_what_the_winner_was_chosen_among():
    assert answered(3, 3).startswith("The best of 3 trained configurations, trial 0, reads 98.00%")
    assert "since" not in answered(3, 3)
    extended = answered(1, 3)
    assert extended.startswith("The best of 1 trained configuration, trial 0, reads")
    assert "2 configurations trained since took no part in that choice." in extended


def test_the_answer_says_that_the_winner_is_a_start():
    known = replace(SPACE, starts={"vgg": {"lr": 0.1, "pool": "max"}})
    assert "trial 0 (vgg, which the space names), reads" in answered(3, 3, space=known)


def test_the_answer_says_that_the_winner_is_a_baseline():
    words = answered(3, 3, name="plain", baseline="plain")
    assert "plain (a baseline; no other configuration was chosen over it), reads" in words


def test_the_answer_says_that_the_winner_only_guesses():
    test = {"mean": 0.5, "low": 0.4, "high": 0.6}
    words = "no better than guessing: who answers 'odd' to every image reads 50.00% correctly."
    assert words in answered(3, 3, test_accuracy=test)
    assert "guessing" not in answered(3, 3, test_accuracy=test | {"mean": 0.6, "low": 0.51})


def test_of_few_writers_the_answer_says_that_they_do_not_exclude_guessing():
    test = {"mean": 1.0, "low": 0.21, "high": 1.0}
    assert "The interval does not exclude guessing: who" in answered(3, 3, test_accuracy=test)


def test_the_answer_of_one_training_is_no_mean():
    assert "correctly: in one training, 95 % interval" in answered(3, 3, seeds=[0])


@pytest.mark.parametrize(
    ("seconds", "unit", "end"), [(1, "seconds", 10.0), (60, "minutes", 10.0), (3600, "hours", 10.0)]
)
def test_time_is_drawn_in_the_unit_that_people_would_take(seconds, unit, end):
    trials = [TrialRecord(0, state="complete", val_accuracy=0.9, best_epoch=1, epochs=10)]
    epochs = [EpochRecord(0, n, 0.1, 0.2, 0.9, 0.1, float(seconds)) for n in range(1, 11)]
    figure = best_so_far(trials, epochs, "digits", slots=[1] * 10)
    assert figure.layout.xaxis.title.text == f"{unit} of training, 1 at once"
    assert figure.data[1].x[-1] == pytest.approx(end)


def test_the_axis_of_errors_ends_where_what_is_drawn_does():
    trials = [
        TrialRecord(n, state="complete", val_accuracy=a, best_epoch=1, epochs=1, seconds=1.0)
        for n, a in enumerate((0.98, 0.7))
    ]
    epochs = [EpochRecord(t.trial, 1, 0.1, 0.2, t.val_accuracy, 0.1, 1.0) for t in trials]
    low, high = (10**end for end in learning_curves(trials, epochs, "d").layout.yaxis.range)
    assert (low, high) == (pytest.approx(0.016), pytest.approx(0.375))


def test_the_answer_names_trainings_that_failed():
    assert "the mean of 2 trainings (1 more failed), 95 %" in answered(3, 3, failed={"2": "NaN"})


def test_the_answer_calls_no_image_unseen_that_has_a_twin_in_training():
    assert "98.00% of 100 unseen images of" in answered(3, 3)
    twins = answered(3, 3, twins=7)
    assert "of 100 images of digits, 7 of which have a twin among the others, correctly" in twins
    assert "unseen images of digits, by writers whom it was trained on, correctly" in answered(
        3, 3, writers=100
    )
    both = "images of digits, by writers whom it was trained on, 7 of which have a twin among the"
    assert both in answered(3, 3, twins=7, writers=100)


def raced(scheduler):
    """Return a study of which "avg" began well and was stopped, or "max" in the end read better."""
    trials, epochs = [], []
    for number in range(8):
        pool = ("max", "avg")[number % 2]
        curve = {"max": [0.5, 0.7, 0.9], "avg": [0.6]}[pool]
        trial = TrialRecord(number, config={"lr": 0.1**number, "pool": pool})
        for epoch, accuracy in enumerate(curve, 1):
            epochs.append(EpochRecord(number, epoch, 0.1, 0.2, accuracy, 0.1, 1.0))
            trial.add(epochs[-1])
        trial.state = "complete" if len(curve) == 3 else "stopped"
        trials.append(trial)
    lost = {"state": "failed", "config": {"lr": 0.1, "pool": "max"}}
    diverged = TrialRecord(8, reason="diverged at epoch 1: NaN", **lost)
    broken = TrialRecord(9, reason="ValueError: a mistake", **lost)
    about = {"scheduler": scheduler, "space": SPACE.to_json()}
    return Content(about, [*trials, diverged, broken], epochs, {})


def test_choices_are_compared_after_as_many_epochs():
    asha = raced({"name": "asha", "grace_period": 1})
    assert asha.compared_after == 1
    seen = {t.trial: (t.val_accuracy, t.epochs) for t in asha.comparable}
    assert all(seen[n] == ((0.5, 0.6)[n % 2], 1) for n in range(8))
    assert [*seen] == [*range(9)], "what diverged before, too, but not what broke"
    assert raced({"name": "median"}).compared_after == 1
    whole = raced({"name": "none"})
    assert whole.compared_after == 0
    assert [t.trial for t in whole.comparable] == [0, 2, 4, 6, 8], "what was stopped is no result"


def test_values_that_were_hardly_tried_are_named():
    assert untold(raced({"name": "none"})) == ["pool max, avg"], "of avg no trial ended"
    assert untold(raced({"name": "asha"})) == []


def test_openings_by_other_studies_beside_are_counted(tmp_path):
    for name in ("a", "copy", "other", "elsewhere", "damaged"):
        folder = StudyFolder(tmp_path / name)
        shutil.copytree(REFERENCE, folder.path)
        about, tested = folder.read_study(), folder.read_retrain()
        if name == "other":
            tested["test_openings"] = [{"time": "now", "command": "", "configuration": "trial 1"}]
        elif name == "elsewhere":
            about["split"]["seed"] = 1
        folder.write_study({} if name == "damaged" else about)
        folder.write_retrain(tested)
    folder = StudyFolder(tmp_path / "a")
    assert openings_beside(folder, read_content(folder)) == 1


def test_an_older_record_tells_a_test_part_by_its_size():
    about = StudyFolder(REFERENCE.with_name("mnist_cnn-hour")).read_study()
    assert "test_from" not in about["data"]
    assert images_tested(about["data"], about["split"])[1] == "its own"
    about = StudyFolder(REFERENCE).read_study()
    assert images_tested(about["data"], about["split"])[1] == ["random", 0, 0.1]


def test_trials_that_validation_cannot_tell_from_the_winner_are_counted():
    order = [
        TrialRecord(n, val_accuracy=accuracy, best_epoch=1, config={"lr": n})
        for n, accuracy in enumerate((1.0, 0.995, 0.994, 0.90))
    ]
    assert too_close(order[0], order, images=1000) == 1
    about = {"baseline": None, "split": {"counts": {"validation": 1000}}}
    tested = {"configurations": [{"name": "trial 0"}]}
    assert rivals(Content(about, order, [], tested)) == (
        "The choice of trial 0 rests on 1,000 validation images, of which 1 other trial read at "
        "most 5 more or fewer: too close to tell apart."
    )
    assert rivals(Content(about, order[:1], [], tested)) == ""
    assert rivals(Content(about, order, [], {**tested, "finalists": []})) == ""


def test_after_many_trials_only_the_baselines_are_drawn():
    trials = [TrialRecord(n, val_accuracy=1 - n / 1000, best_epoch=1, epochs=1) for n in range(400)]
    trials[350] = replace(trials[350], baseline="old")
    epochs = [EpochRecord(n, 1, 0.1, 0.2, 1 - n / 1000, 0.1, 1.0) for n in range(400)]
    drawn = {trace.name for trace in learning_curves(trials, epochs, "digits").data}
    assert drawn == {*(f"trial {n}" for n in range(300)), "old"}


def test_a_study_whose_process_was_killed_does_not_run(tmp_path):
    folder = create_study(tmp_path, None, "s", about={"format": 1, "status": "running"})
    assert folder.read_study_now()["status"] == "interrupted"
    with folder.locked():
        assert folder.read_study_now()["status"] == "running"
    folder.write_study({**folder.read_study(), "status": "complete"})
    assert folder.read_study_now()["status"] == "complete"


def test_what_was_not_as_published_is_said():
    space = load_space("chinese_cnn")

    def how(epochs, data="chinese_mnist", honest=False):
        baseline = {"name": "oafarih", "honest": honest, "epochs": epochs}
        about = {"baseline": baseline, "space": space.to_json(), "data": {"name": data}}
        return how_trained(Content(about, [], [], {}), baseline)

    assert how(80) == "as published"
    assert how(1) == "as published, but for 1 instead of 80 epochs"
    assert how(80, "letters") == "as published, but on letters instead of chinese_mnist"
    assert how(1, honest=True) == "by hwtune"


def test_a_logarithmic_axis_stays_within_the_plot():
    for low, high, shown in ((1e-5, 1e-1, 5), (2e-4, 8e-4, 2), (1e-3, 1e-3, 2)):
        space = replace(SPACE, search={**SPACE.search, "lr": log_uniform(low, high)})
        drawn = axis(space, "lr", [low, high])
        first, last = drawn["range"]
        assert all(first < each < last for each in (*drawn["tickvals"], *drawn["values"]))
        assert len(drawn["tickvals"]) == shown


def test_a_perfect_confusion_is_not_painted():
    figure = confusion_map([[5, 0], [0, 5]], ["a", "<b>"], "digits")
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)
    assert figure.data[0].x == ("a", "&lt;b&gt;")


def test_baselines_left_out_are_those_without_an_epoch():
    trials = [TrialRecord(0, "a", epochs=1, best_epoch=1, val_accuracy=0.5), TrialRecord(1)]
    assert left_out(Content({"left_out": ["a", "b"]}, trials, [], {})) == ["b"]
    assert left_out(Content({}, trials, [], {})) == []


def test_baselines_without_an_accuracy_are_named_with_what_became_of_them():
    points = {name: {"lr": 10.0**-n, "pool": "max"} for n, name in enumerate("abcd", 2)}
    about = {
        "space": replace(SPACE, baselines={**points, "like a": points["a"]}).to_json(),
        "left_out": ["b"], "baseline": None, "status": "complete",
    }  # fmt: skip
    trials = [
        TrialRecord(0, "a", epochs=1, best_epoch=1, val_accuracy=0.5),
        TrialRecord(1, "c", state="failed", reason="diverged at epoch 1"),
    ]
    told = ["c failed (diverged at epoch 1)", "d was not begun"]
    assert without_accuracy(Content(about, trials, [], {})) == told
    assert without_accuracy(Content({**about, "status": "running"}, trials, [], {})) == told[:1]
    assert without_accuracy(Content({**about, "baseline": {"name": "a"}}, trials, [], {})) == []


def test_each_epoch_counts_with_the_trials_at_once_of_its_run():
    about = {"hardware": {"parallel": 8}, "runs": [
        {"parallel": 2, "epochs_before": 0}, {"note": "retrained only"},
        {"parallel": 8, "epochs_before": 3},
    ]}  # fmt: skip
    assert trials_at_once(about, 5) == [2, 2, 2, 8, 8]
    assert trials_at_once({"hardware": {}}, 2) == [1, 1]


def test_points_that_were_found_on_another_split_are_told():
    found = {"kind": "random", "seed": 0}
    space = replace(SPACE, starts={"s": {"lr": 0.01, "pool": "max"}}, found_on={"s": found})

    def told(name="digits", space=space, **split):
        about = {"space": space.to_json(), "data": {"name": name}, "split": {**found, **split}}
        return warned(about)

    def warned(about):
        return other_split(Content(about, [], [], {}))

    assert told() == told("mnist", kind="writer") == told(space=SPACE, kind="writer") == ""
    assert told(kind="writer").endswith("that are tested here: s.")
    assert told(seed=1) == told(kind="writer")
    assert space.without(["s"]) == SPACE
    sure = replace(space, found_on={"s": {**found, "images": 90}})
    about = {"space": sure.to_json(), "split": found, "data": {"name": "digits", "images": 90}}
    assert warned(about) == ""
    assert warned({**about, "data": {"name": "digits", "images": 89}}) == told(seed=1)
    about = {"space": space.to_json(), "data": {"name": "digits"}, "split": {**found, "seed": 1}}
    assert warned({**about, "baseline": {"name": "another"}}) == ""
    assert warned({**about, "baseline": {"name": "s"}}) == told(seed=1)


def test_a_long_number_is_shortened_without_losing_its_power():
    assert short("7.724762230406119e-05") == "7.725e-05"
    assert short("0.0123456789") == "0.01235"
    assert short("16-24-32-40-48") == "16-24-32-40-48"
    assert short("64") == "64"


def test_the_page_of_a_renamed_study_has_its_new_name(tmp_path):
    folder = StudyFolder(tmp_path / "first one")
    shutil.copytree(REFERENCE, folder.path)
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert "<title>first one · hwtune</title>" in page
    assert "hwtune retrain &#39;first one&#39; --baselines" in page


def test_scores_of_a_class_say_on_how_many_images_they_rest():
    assert images_by_class([[3, 1], [0, 2]], ["a", "b"]) == {"a": 4, "b": 2}
    counts = [
        {"true": 0, "predicted": 0, "count": 3}, {"true": 0, "predicted": 1, "count": 1},
        {"true": 1, "predicted": 1, "count": 2},
    ]  # fmt: skip
    assert images_by_class(counts, ["a", "b"]) == {"a": 4, "b": 2}


def test_a_page_says_what_was_made_by_other_versions_or_elsewhere():
    def by(torch, processor, *gpus):
        versions = {"torch": torch}
        return {"versions": versions, "git_commit": "c", "processor": processor, "gpus": [*gpus]}

    def told(runs, *openings):
        last = {"hardware": {"processor": "fast", "gpus": []}, "git_commit": "c", "runs": runs}
        about = {**last, "versions": {"torch": "2.15"}}
        return made_elsewhere(Content(about, [], [], {"test_openings": openings}))

    old = {"started": "yesterday"}  # by an hwtune that did not record it
    now = {"started": "now", "made_by": by("2.15", "fast")}
    earlier = {"started": "today", "made_by": by("2.14", "fast", "a GPU")}
    test = {"time": "now", "made_by": by("2.15", "slow")}
    assert told([old, earlier, now], test) == [
        "the run of today: torch 2.14, fast and a GPU", "the test of now: slow",
    ]  # fmt: skip
    assert told([old], test) == ["the test of now: slow"]
    assert told([now]) == []


def test_writers_are_shown_by_their_names_the_worst_read_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    for name in ("a", "b"):
        for writer in ("bob", "ann"):
            (tmp_path / "mine" / name / writer).mkdir(parents=True)
            for number in range(5):
                picture = Image.new("L", (8, 8), 50 * number)
                picture.save(tmp_path / "mine" / name / writer / f"{number}.png")
    add_data("letters", tmp_path / "mine")
    known = load_data("letters").describe()
    assert writer_names(known) == {1: "ann", 2: "bob"}
    assert writer_names({**known, "sha256": "of other images"}) == {}
    for name in ("a", "b"):  # which is the first by its name, but not as it is shown
        (tmp_path / "mine" / name / "bob").rename(tmp_path / "mine" / name / "\x1bob")
    add_data("others", tmp_path / "mine")
    assert writer_names(load_data("others").describe()) == {1: "\\x1bob", 2: "ann"}
    assert writer_names(load_data("digits").describe()) == {}
    read = {"1": {"images": 10, "misread": [1, 2]}, "2": {"images": 10, "misread": [4, 6]}}
    assert by_writer(read, {"data": known}) == [("bob", 10, 0.5), ("ann", 10, 0.85)]
    shutil.rmtree(tmp_path / "data")  # as on the machine of somebody else
    assert by_writer(read, {"data": known}) == [("2", 10, 0.5), ("1", 10, 0.85)]
    folder = tmp_path / "study"
    shutil.copytree(REFERENCE, folder)
    tested = json.loads((folder / "retrain.json").read_text(encoding="utf-8"))
    tested["configurations"][0]["writers"] = read
    (folder / "retrain.json").write_text(json.dumps(tested), encoding="utf-8")
    write_report(StudyFolder(folder))
    page = (folder / "report.html").read_text(encoding="utf-8")
    table = re.search(r"reads each writer</h2>.*?</table>", page, re.DOTALL)[0]
    assert re.findall(r"<td>(\d)</td><td class=\"number\">(.*?)</td>", table) == [
        ("2", "50.00%"), ("1", "85.00%"),
    ]  # fmt: skip


def test_a_misread_picture_of_ones_own_is_named_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for number in range(10):
            shade = 100 * (name == "b") + number
            picture = Image.new("L", (8, 8))
            picture.putpixel((3, 3), 100 + shade // 2)
            picture.save(tmp_path / "mine" / name / f"{number}.png")
    add_data("letters", tmp_path / "mine")
    about = {"data": load_data("letters").describe()}
    (seen,) = misread_images(about, [{"image": 13, "true": 1, "predicted": 0}])
    assert seen.file == "b/3.png"
    assert picture_files("digits") == []
