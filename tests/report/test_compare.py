"""Studies side by side."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from hwtune.report.compare import Compared, describe, described, seeds, winners, write_comparison
from hwtune.report.verdicts import (
    Contender,
    basis,
    image_variance,
    images_tested,
    verdict,
    verdicts,
    verdicts_within,
)
from hwtune.statistics import welch_interval
from hwtune.study_folder import StudyFolder
from hwtune.words import for_people
from tests.conftest import assert_refused

RESULTS = Path(__file__).parents[2] / "results"
NAMES = ("chinese_cnn-hour", "chinese_cnn-random", "chinese_cnn-writer")
PART = ["hash", ["random", 0, 0.1]]


def entry_of(name, per_seed, misread=None, parameters=100, **more):
    """What retrain.json says of a configuration; each seed misreads images of its own, or these."""
    wrong = [round(1500 * (1 - accuracy)) for accuracy in per_seed]
    begins = [1500 * seed + 100_000 * ord(name[0]) for seed in range(len(wrong))]
    misread = misread or [[*range(b, b + n)] for b, n in zip(begins, wrong, strict=True)]
    accuracy = {
        "mean": sum(per_seed) / len(per_seed),
        "low": 0.0,
        "high": 1.0,
        "per_seed": per_seed,
    }
    return {
        "name": name, "parameters": parameters, "test_accuracy": accuracy, "test_images": 1500,
        "misread_by_seed": misread, **more,
    }  # fmt: skip


def winner_of(name, per_seed, part=PART, kind="random", **more):
    return Contender(name, entry_of(name, per_seed, **more), kind, part)


def reading(name, *misread):
    """A winner of which each seed misread these images."""
    accuracies = [1 - len(seed) / 1500 for seed in misread]
    return winner_of(name, accuracies, misread=[*misread])


def test_a_winner_is_told_apart_from_what_else_was_tested_of_its_study():
    words, why = verdicts_within([
        entry_of("t7", [0.97, 0.98, 0.97]), entry_of("oafarih", [0.90, 0.91, 0.90]),
        entry_of("t3", [0.99, 0.97]),
    ], "random")  # fmt: skip
    assert "t7 reads better than oafarih: 7.00 points" in words[0]
    assert words[1].startswith("t3 and t7 cannot be told apart: 0.67 points")
    assert "Welch" in why
    assert (
        verdicts_within([entry_of("t7", [0.97])], "random")
        == verdicts_within([], "random")
        == ([], "")
    )


def test_a_clear_winner_is_called_better():
    words = verdicts([
        winner_of("a", [0.90, 0.91, 0.90], parameters=25), winner_of("b", [0.99, 0.98, 0.99]),
    ])  # fmt: skip
    assert words == [
        "b reads better than a: 8.33 points (+6.94 to +9.72); a has 0.25 times the parameters."
    ]


def test_a_far_larger_network_has_its_size_in_digits():
    words = verdict(
        winner_of("a", [0.98, 0.99], parameters=30_000),
        winner_of("b", [0.90, 0.91], parameters=4_222_831),
    )
    assert words.endswith("b has 141 times the parameters.")


def test_a_study_may_have_a_number_for_a_name():
    tested = [winner_of("7", [0.98, 0.99]), winner_of("a", [0.97, 0.98])]
    studies = [Compared(each.name, {}, each) for each in tested]
    assert seeds(studies).layout.yaxis.type == "category"


def test_what_may_be_chance_is_not_called_better():
    (words,) = verdicts([winner_of("a", [0.97, 0.99]), winner_of("b", [0.97, 0.98])])
    assert words.startswith("a and b cannot be told apart: 0.50 points (-")


def test_other_test_images_and_single_seeds_do_not_compare():
    one = winner_of("a", [0.9, 0.9])
    other = winner_of("b", [0.8, 0.8], part=["hash", ["random", 1, 0.1]])
    assert verdicts([one, other]) == [
        "Tested on different images, so that they do not compare: a; b."
    ]
    assert "by a single seed of b: train" in verdict(one, winner_of("b", [0.8]))
    assert verdicts([one]) == []


def test_studies_on_the_same_images_are_judged_also_beside_others():
    one, two = winner_of("a", [0.90, 0.91]), winner_of("b", [0.80, 0.81])
    best = winner_of("c", [0.98, 0.99], part=["hash", ["random", 1, 0.1]])
    first, last = verdicts([one, two, best])
    assert first.startswith("a reads better than b: 10.00 points (")
    assert last.endswith("a, b; c.")


def test_a_data_set_with_a_test_part_of_its_own_is_one_test_under_every_split_that_keeps_it():
    data, other = {"sha256": "a", "test_from": 60_000}, {"sha256": "a", "test_from": None}
    splits = [{"kind": kind, "seed": 0, "test": 0.1} for kind in ("random", "ordered", "halved")]
    own, ordered, half = (images_tested(data, each) for each in splits)
    assert own == ordered != half
    assert images_tested(other, splits[0]) != own


def test_how_many_images_validate_does_not_change_the_test_part():
    published, searched = (
        describe(StudyFolder(RESULTS / name), name).tested
        for name in ("published/chinese_cnn-lazhili8_cnn", "chinese_cnn-default")
    )
    assert published.part == searched.part


def test_seeds_that_do_not_vary_leave_the_chance_of_the_images():
    words = verdict(winner_of("a", [0.982, 0.982]), winner_of("b", [0.98, 0.98]))
    assert words.startswith("a and b cannot be told apart: 0.20 points (-")


def test_what_verdicts_rest_on_is_said_where_there_are_any():
    single, other = winner_of("a", [0.98]), winner_of("b", [0.97, 0.98])
    assert basis([single, other]) == basis([other]) == ""
    assert "and of which images" in basis([single, other, winner_of("c", [0.99, 0.98])])


def test_the_same_images_misread_by_both_widen_no_interval():
    hard = [*range(60)]
    ours = reading("a", [*hard, 60], [*hard, 61])
    theirs = reading("b", [*hard, *range(100, 120)], [*hard, *range(100, 121)])
    variance, parts = image_variance(ours.record, theirs.record)
    # 20 images are misread by b alone, and three by one of two seeds: of 1,500.
    gain = (20 + 1 / 2 - 1 / 2 - 1 / 2) / 1500
    assert parts == 23
    assert variance == pytest.approx((20 + 3 / 4 - 1500 * gain**2) / 1499 / 1500, rel=1e-9)
    assert verdict(ours, theirs).startswith("a reads better than b: 1.30 points (")


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (5, 5), (3, 5), (6, 7)])
def test_what_all_seeds_of_both_misread_is_no_part_of_a_difference(ours, theirs):
    """However many images that are: a third three times is one."""
    hard, more = [*range(40)], [*range(100, 105)]
    a = reading("a", *[hard] * ours)
    b = reading("b", *[[*hard, *more]] * theirs)
    assert image_variance(a.record, b.record)[1] == len(more)
    assert "cannot be told apart" in verdict(a, b)


def test_an_older_record_is_compared_by_the_images_of_its_first_seed():
    one, other = reading("a", [1], [1]), reading("b", [1, *range(9, 19)], [1, *range(9, 19)])
    known = image_variance(one.record, other.record)
    for each in (one, other):
        first = each.record.pop("misread_by_seed")[0]
        each.record["misread"] = [{"image": image} for image in first]
    assert image_variance(one.record, other.record) == known


@pytest.mark.parametrize(("images", "told"), [(3, False), (5, False), (9, True)])
def test_a_handful_of_images_is_not_better(images, told):
    more = [1, *range(3, 3 + images)]
    a, b = reading("a", [1], [1], [1, 2]), reading("b", more, more, [*more, 99])
    assert welch_interval(a.per_seed, over=b.per_seed)[1] > 0, "by the trainings alone"
    assert ("reads better" in verdict(a, b)) is told


def strangers(name, by_writer):
    """A winner tested on 100 images of each writer, of whom each seed misread so many."""
    writers = {w: {"images": 100, "misread": seeds} for w, seeds in by_writer.items()}
    images = 100 * len(writers)
    shares = [1 - sum(seeds) / images for seeds in zip(*by_writer.values(), strict=True)]
    return winner_of(name, shares, kind="writer", test_images=images, writers=writers)


def test_strangers_are_compared_writer_by_writer():
    one = strangers("a", {"7": [0, 0], "8": [1, 1], "9": [0, 1]})
    other = strangers("b", {"7": [30, 30], "8": [1, 1], "9": [0, 1]})
    variance, parts = image_variance(one.record, other.record)
    assert parts == 3
    assert variance == pytest.approx(1.5 * (20**2 + 10**2 + 10**2) / 300**2)
    assert "cannot be told apart" in verdict(one, other), "30 images, but of one writer"
    alike = strangers("c", {"7": [3, 3], "8": [4, 4], "9": [3, 4]})
    assert "a and c cannot be told apart: 3.00 points (-" in verdict(one, alike), "9 images"
    one.record["test_accuracy"]["independent_images"] = 1
    assert "so few tested writers" in verdict(one, other)
    del other.record["writers"]
    assert "the record of b is older; retrain it" in verdict(other, one)


def test_studies_of_one_name_are_called_by_their_paths(tmp_path):
    folders = [StudyFolder(RESULTS / NAMES[0]), StudyFolder(tmp_path / NAMES[0])]
    shutil.copytree(*(folder.path for folder in folders))
    names = [each.name for each in described(folders)]
    assert names == [for_people(folder.path) for folder in folders]
    assert [each.name for each in described(folders[:1])] == [NAMES[0]]


def test_the_page_of_several_studies_names_them_and_their_verdicts(tmp_path):
    folders = [StudyFolder(RESULTS / name) for name in NAMES]
    studies = described(folders)
    write_comparison(tmp_path / "c.html", folders, studies)
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert all(f">{name}</th>" in page for name in NAMES)
    assert all(words in page for words in verdicts(winners(studies)))


def test_the_command_speaks_json_and_csv(hwtune):
    words = ["compare", *NAMES[:2], "--results", RESULTS]
    shown = json.loads(hwtune(*words, "--json").stdout)
    assert [each["study"] for each in shown["studies"]] == list(NAMES[:2])
    assert len(shown["verdicts"]) == 1
    assert "of which images were tested" in shown["basis"]
    lines = list(csv.reader(io.StringIO(hwtune(*words, "--csv").stdout)))
    assert lines[0] == ["", *NAMES[:2]]
    winners = [
        json.loads((RESULTS / name / "retrain.json").read_text())["configurations"][0]
        for name in NAMES[:2]
    ]
    assert ["parameters", *(str(each["parameters"]) for each in winners)] in lines
    accuracies = next(line for line in lines if line[0] == "test_accuracy")[1:]
    assert list(map(float, accuracies)) == [each["test_accuracy"]["mean"] for each in winners]
    best = csv.DictReader(
        io.StringIO(hwtune("trials", NAMES[0], "--results", RESULTS, "--csv").stdout)
    )
    assert next(best)["trial"] == "22"


def test_one_study_alone_does_not_compare(hwtune):
    assert_refused(hwtune("compare", NAMES[0], "--results", RESULTS), "two studies", NAMES[0])


def test_a_page_that_cannot_be_written_is_refused(hwtune, tmp_path):
    page = tmp_path / "nowhere" / "c.html"
    words = ["compare", *NAMES[:2], "--results", RESULTS, "--page", page]
    assert_refused(hwtune(*words), str(page), "cannot be written")
