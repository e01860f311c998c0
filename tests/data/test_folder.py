import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from hwtune.data import find_data, load_data, own_names, shape_of
from hwtune.data.add import add_data
from hwtune.data.folder import MAX_SIDE, asked_of, copy_pictures, read_folder, told_apart
from hwtune.data.own import picture_files
from hwtune.data.splits import SplitSpec, split_indices
from hwtune.errors import DataError, OptionError

CLASSES = ("9", "10", "tick")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "cache"))


def draw(path, label, *, size=(12, 12)):
    """Write dark ink on paper: a bar whose row tells the class."""
    paper = np.full(size, 255, np.uint8)
    paper[2 + 3 * label, 3:9] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paper).save(path)


def letters(folder, *, writers=("",), each=10, **options):
    """Write `each` pictures of every class by every writer."""
    for label, name in enumerate(CLASSES):
        for writer in writers:
            for number in range(each):
                draw(folder / name / writer / f"{number}.png", label, **options)
    return folder


def test_a_folder_of_classes_becomes_a_data_set(tmp_path):
    add_data("letters", letters(tmp_path / "mine"))
    dataset = load_data("letters")
    assert (dataset.name, dataset.classes, dataset.writers) == ("letters", CLASSES, None)
    assert np.bincount(dataset.labels).tolist() == [10, 10, 10]
    assert shape_of("letters") == (3, 12)
    for label in range(3):  # light ink on black, in the row of its class
        bars = dataset.images[dataset.labels == label]
        assert (bars[:, 2 + 3 * label, 3:9] == 255).all()
        assert (bars.sum(axis=(1, 2)) == 6 * 255).all()


def test_folders_within_the_classes_are_writers(tmp_path):
    add_data("letters", letters(tmp_path / "mine", writers=("ann", "bo", "cy"), each=4))
    dataset = load_data("letters")
    assert np.bincount(dataset.writers).tolist() == [0, 12, 12, 12]
    split = split_indices(dataset, SplitSpec(kind="writer", validation=0.34, test=0.34))
    sides = [set(dataset.writers[part]) for part in (split.train, split.validation, split.test)]
    assert [len(side) for side in sides] == [1, 1, 1]
    assert len(set.union(*sides)) == 3


@pytest.mark.parametrize(
    ("people", "numbers"),
    [
        (("7", "12"), {7, 12}),
        (("7", "bo"), {1, 2}),
        (("1", "01"), {1, 2}),
        (("9" * 20, "8" * 20), {1, 2}),
    ],
)
def test_writers_keep_their_numbers_where_they_can(tmp_path, people, numbers):
    add_data("letters", letters(tmp_path / "mine", writers=people, each=5))
    assert set(load_data("letters").writers) == numbers


def test_large_pictures_are_scaled_down(tmp_path):
    letters(tmp_path / "mine", size=(12, 300))
    add_data("letters", tmp_path / "mine")
    assert load_data("letters").side == MAX_SIDE


def test_oblong_pictures_get_a_margin(tmp_path):
    letters(tmp_path / "mine", size=(12, 24))
    add_data("letters", tmp_path / "mine")
    images = load_data("letters").images
    assert images.shape[1:] == (24, 24)
    assert not images[:, :6].any()
    assert not images[:, -6:].any()


def test_what_is_hidden_or_no_picture_is_left_out(tmp_path):
    letters(tmp_path / "mine", writers=("ann", "bo"), each=5)
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "mine" / "9" / "Thumbs.db").write_bytes(b"\0")
    draw(tmp_path / "mine" / "9" / "ann" / "._0.png", 0)
    draw(tmp_path / "mine" / "9" / ".checkpoints" / "0.png", 0)
    draw(tmp_path / "mine" / ".trash" / "ann" / "0.png", 0)
    kept, _ = add_data("letters", tmp_path / "mine")
    assert len(load_data("letters").images) == 30
    assert len([path for path in kept.rglob("*") if path.is_file()]) == 30
    assert [path.name for path in told_apart(tmp_path / "mine")[1]] == ["Thumbs.db", "notes.txt"]


def test_links_are_neither_followed_nor_in_the_way(tmp_path):
    mine = letters(tmp_path / "mine")
    (mine / "9" / "loop").symlink_to(mine, target_is_directory=True)
    (mine / "9" / "gone.txt").symlink_to(tmp_path / "gone.txt")
    add_data("letters", mine)
    assert len(load_data("letters").images) == 30
    (mine / "linked").symlink_to(mine / "9", target_is_directory=True)
    with pytest.raises(DataError, match="mine/linked is a link, .* not followed"):
        add_data("others", mine)


def test_pictures_that_were_not_fetched_are_not_passed_over(tmp_path):
    mine = letters(tmp_path / "mine")
    (mine / "9" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="1 picture cannot be taken: .*gone.png is a link to noth"):
        add_data("letters", mine)
    assert mine / "9" / "gone.png" in asked_of(mine)[0]  # and `predict` names it


def test_the_parts_of_a_split_are_no_writers(tmp_path):
    mine = letters(tmp_path / "mine", writers=("train", "test"))
    with pytest.raises(DataError, match="is divided into test, train, which hwtune does itself"):
        add_data("letters", mine)


def test_a_writer_whose_folder_is_a_link_is_not_lost(tmp_path):
    mine = letters(tmp_path / "mine", writers=("ann", "bob"))
    (mine / "9" / "bob").rename(tmp_path / "bob")
    (mine / "9" / "bob").symlink_to(tmp_path / "bob", target_is_directory=True)
    with pytest.raises(DataError, match="mine/9/bob is a link, .* not followed"):
        add_data("letters", mine)


def test_the_data_folder_may_be_the_folder_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(letters(tmp_path / "mine")))
    add_data("letters", tmp_path / "mine")
    assert len(load_data("letters").images) == 30


def test_file_names_need_not_be_utf8(tmp_path):
    letters(tmp_path / "mine")
    draw(tmp_path / "mine" / "9" / os.fsdecode("手.png".encode("gbk")), 0)
    add_data("letters", tmp_path / "mine")
    assert len(load_data("letters").images) == 31
    (odd,) = [name for name in picture_files("letters") if "\\" in name]
    assert odd == r"9/\udcca\udcd6.png", "which a page can hold"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_writer_spelled_in_two_ways_is_one(tmp_path, form):
    mine = letters(tmp_path / "mine", writers=("ann", "José"))
    for name in CLASSES[1:]:
        (mine / name / "José").rename(mine / name / unicodedata.normalize(form, "José"))
    add_data("letters", mine)
    assert np.unique(load_data("letters").writers).tolist() == [1, 2]


def test_classes_that_look_alike_are_refused(tmp_path):
    mine = letters(tmp_path / "mine")
    for form in ("NFC", "NFD"):
        shutil.copytree(mine / "9", mine / unicodedata.normalize(form, "é"))
    with pytest.raises(DataError, match="look alike"):
        add_data("letters", mine)


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="gone cannot be read .*make it readable"):
        told_apart(tmp_path / "gone")


def test_a_picture_more_is_seen(tmp_path):
    kept, _ = add_data("letters", letters(tmp_path / "mine"))
    before = load_data("letters")
    draw(kept / "9" / "more.png", 0)
    assert len(load_data("letters").images) == len(before.images) + 1


def spoil_depth(mine):
    draw(mine / "tick" / "ann" / "0.png", 2)


def spoil_count(mine):
    (mine / "tick" / "0.png").unlink()


def spoil_picture(mine):
    (mine / "tick" / "0.png").write_bytes(b"\x89PNG")


def spoil_classes(mine):
    for name in CLASSES:
        (mine / name).rename(mine.parent / name)


def spoil_name(mine):
    (mine / "tick").rename(mine / os.fsdecode("手".encode("gbk")))


def spoil_layout(mine):
    for part in ("train", "Test"):
        letters(mine / part)
    for name in CLASSES:
        shutil.rmtree(mine / name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_depth, "10/0.png and .*ann/0.png: .*CLASS/WRITER/PICTURE"),
        (spoil_count, "tick holds 9 pictures .* needs 10"),
        (spoil_picture, "tick/0.png cannot be read as a picture"),
        (spoil_classes, "mine holds no folder; a data set of your own is a folder with a folder"),
        (spoil_name, "'.udcca.udcd6' is not UTF-8; rename that folder"),
        (spoil_layout, "divided into Test, train, which hwtune does itself"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_and_not_copied(tmp_path, spoil, said):
    spoil(letters(tmp_path / "mine"))
    with pytest.raises(DataError, match=said):
        add_data("letters", tmp_path / "mine")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["../letters", "my letters", "", "-x", ".x"])
def test_a_name_that_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="names no data set"):
        add_data(name, letters(tmp_path / "mine"))


def test_the_word_for_a_spaces_own_data_is_no_name(tmp_path):
    with pytest.raises(DataError, match="'auto' stands for"):
        add_data("auto", letters(tmp_path / "mine"))


def test_all_pictures_that_do_not_read_are_named_at_once(tmp_path):
    mine = letters(tmp_path / "mine", each=20)
    whole = (mine / "9" / "0.png").read_bytes()
    for number in range(3):
        (mine / "9" / f"{number}.png").write_bytes(whole[:-30] if number else b"")
    with pytest.raises(DataError, match=r"^3 pictures .*9/0.png .*9/1.png .*9/2.png"):
        add_data("letters", mine)
    for number in range(3, 9):
        (mine / "9" / f"{number}.png").write_bytes(b"")
    everyone = tmp_path / "cache" / "faults.txt"
    with pytest.raises(DataError, match=rf"^9 pictures .* \(and 4 more; all are in {everyone}\);"):
        add_data("letters", mine)
    assert len(everyone.read_text().splitlines()) == 9


def test_all_classes_of_few_pictures_are_named_at_once(tmp_path):
    mine = letters(tmp_path / "mine")
    for name in ("9", "tick"):
        (mine / name / "0.png").unlink()
    with pytest.raises(
        DataError, match=r"mine/9 holds 9 pictures, .*mine/tick holds 9 pictures \("
    ):
        add_data("letters", mine)


def test_a_disk_that_takes_small_letters_for_large_ones_merges_no_classes(tmp_path):
    mine, target = letters(tmp_path / "mine"), tmp_path / "there"
    target.mkdir()
    for number in range(10):
        (mine / "tick" / f"{number}.png").rename(mine / "tick" / f"other-{number}.png")
    (target / "9").mkdir()
    (target / "tick").symlink_to("9", target_is_directory=True)  # as if both names were one
    with pytest.raises(DataError, match="mine/tick/other-0.png has the name of another folder"):
        copy_pictures(mine, target)


def test_a_file_is_no_folder_of_images(tmp_path):
    (tmp_path / "letters.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="letters.zip is a file; .* Unpack an archive first"):
        add_data("letters", tmp_path / "letters.zip")


def test_a_name_behind_its_folder_is_told_to_come_first(tmp_path, monkeypatch):
    letters(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="the name comes first: .* data add letters mine$"):
        add_data("mine", tmp_path / "letters")


def test_a_known_data_set_is_not_taken_for_a_folder_of_ones_own(tmp_path):
    with pytest.raises(DataError, match="chinese_mnist.csv"):
        add_data("chinese_mnist", letters(tmp_path / "mine"))
    assert find_data("chinese_mnist") is None


def test_a_folder_that_changes_while_it_is_copied_is_not_taken(tmp_path, monkeypatch):
    """As where a scanner still writes there."""
    mine = letters(tmp_path / "mine")

    def copy_beside_a_scanner(folder, target):
        copy_pictures(folder, target)
        draw(folder / CLASSES[0] / "later.png", 0)

    monkeypatch.setattr("hwtune.data.copy_pictures", copy_beside_a_scanner)
    with pytest.raises(DataError, match="changed while it was copied"):
        add_data("letters", mine)

    def copy_beside_who_tidies_up(folder, target):
        (folder / CLASSES[0] / "later.png").unlink()
        copy_pictures(folder, target)

    monkeypatch.setattr("hwtune.data.copy_pictures", copy_beside_who_tidies_up)
    with pytest.raises(DataError, match="changed while it was copied"):
        add_data("letters", mine)
    assert "letters" not in own_names()


def test_what_cannot_be_taken_is_left_out_where_that_is_wished(tmp_path):
    mine = letters(tmp_path / "mine", each=11)
    for number in range(8):
        draw(mine / "few" / f"{number}.png", 0)
    (mine / "9" / "0.png").write_bytes(b"no picture")
    (mine / "9" / "1.heic").write_bytes(b"")
    with pytest.raises(
        DataError, match="few holds 8 pictures .*; or give --leave-out to go without"
    ):
        add_data("letters", mine)
    kept, left = add_data("letters", mine, leave_out=True)
    assert [words.partition("mine/")[2].partition(" (cannot")[0] for words in left] == [
        "9/1.heic is of a kind that is not read", "9/0.png cannot be read as a picture",
        "few (8 pictures)",
    ]  # fmt: skip
    assert load_data("letters").classes == CLASSES
    assert np.bincount(load_data("letters").labels).tolist() == [10, 11, 11]
    assert {path.name for path in kept.iterdir()} == set(CLASSES)
    assert read_folder("letters", kept).sha256 == load_data("letters").sha256
    assert add_data("whole", letters(tmp_path / "fine"), leave_out=True)[1] == []


def test_a_class_behind_a_link_is_refused_and_not_left_out(tmp_path):
    mine = letters(tmp_path / "mine")
    (mine / "9").rename(tmp_path / "elsewhere")
    (mine / "9").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="9 is a link, and links to folders are not followed"):
        add_data("letters", mine, leave_out=True)


def test_what_is_left_has_to_be_a_data_set(tmp_path):
    mine = letters(tmp_path / "mine", each=9)
    with pytest.raises(DataError, match="holds fewer than two folders"):
        add_data("letters", mine, leave_out=True)
    with pytest.raises(OptionError, match="--leave-out is for folders of your own"):
        add_data("chinese_mnist", mine, leave_out=True)
    assert own_names() == []


def test_pictures_of_a_kind_that_is_not_read_are_not_left_out_without_a_word(tmp_path):
    mine = letters(tmp_path / "mine")
    (mine / "9" / "IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 picture of a kind that is not read .*IMG_1.HEIC"):
        add_data("letters", mine)
    (mine / "9" / "IMG_1.HEIC").rename(mine / "IMG_1.HEIC")  # of no class
    (mine / "9" / "consent.pdf").write_bytes(b"")
    add_data("letters", mine)
