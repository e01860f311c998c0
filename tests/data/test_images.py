import numpy as np
import pytest

from hwtune.data import DATASETS, find_data, is_at_hand, load_data
from hwtune.data.add import add_data
from hwtune.data.images import Dataset, cache_folder, cached, data_folder
from hwtune.errors import DataError
from tests.data.archives import members, write_folder, write_zip


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def small():
    return Dataset("small", np.full((4, 2, 2), 7, np.uint8), np.arange(4), tuple("abcd"))


class Decoder:
    """Counts how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return small()


@pytest.mark.parametrize("name", [n for n, s in DATASETS.items() if s.find is None])
def test_a_built_in_data_set_is_as_its_entry_says(folders, name):
    dataset = load_data(name)
    assert dataset.name == name
    assert (len(dataset.classes), dataset.side) == (DATASETS[name].classes, DATASETS[name].side)
    assert dataset.images.dtype == np.uint8
    assert np.bincount(dataset.labels).min() > 0


def test_the_strokes_are_fifteen_thousand_images_by_a_hundred_writers(folders):
    dataset = load_data("chinese_strokes")
    assert len(dataset.images) == 15000
    assert len(np.unique(dataset.writers)) == 100
    assert len(np.unique(dataset.images.reshape(15000, -1), axis=0)) == 15000


def test_a_second_read_comes_from_the_cache(folders):
    decode = Decoder()
    first, second = (cached("small", None, decode) for _ in range(2))
    assert decode.calls == 1
    assert first.sha256 == second.sha256


def test_a_damaged_cache_is_made_anew(folders):
    decode = Decoder()
    whole = cached("small", None, decode)
    path = cache_folder() / "small.npz"
    content = bytearray(path.read_bytes())
    content[content.find(b"\x07\x07\x07\x07")] = 9  # one pixel
    path.write_bytes(bytes(content))
    assert cached("small", None, decode).sha256 == whole.sha256
    assert decode.calls == 2


@pytest.mark.parametrize("name", ["small.npz", "small.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04"])
def test_a_torn_cache_is_made_anew(folders, name, content):
    decode = Decoder()
    cached("small", None, decode)
    (cache_folder() / name).write_bytes(content)
    cached("small", None, decode)
    assert decode.calls == 2


def test_a_changed_source_is_decoded_anew(folders):
    source, decode = folders / "source", Decoder()
    source.write_text("a")
    cached("small", source, decode)
    source.write_text("longer")
    cached("small", source, decode)
    assert decode.calls == 2


def test_a_source_that_changed_behind_a_link_is_decoded_anew(folders):
    source, decode = folders / "source", Decoder()
    source.write_text("a")
    (folders / "link").symlink_to(source)
    for content in ("a", "longer"):
        source.write_text(content)
        cached("small", folders / "link", decode)
    assert decode.calls == 2


def test_a_cache_folder_that_cannot_be_written_is_done_without(folders, monkeypatch):
    (folders / "cache").write_text("a file stands where the folder should be")
    assert cached("small", None, Decoder()).sha256 == small().sha256


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((0, 2, 2), np.uint8), []),
        (np.zeros((2, 2, 3), np.uint8), [0, 1]),
        (np.zeros((2, 2, 2), np.uint8), [0]),
        (np.zeros((2, 2, 2), np.uint8), [0, 4]),
        (np.zeros((2, 2, 2), np.uint8), [-1, 0]),
    ],
)
def test_impossible_arrays_are_refused(images, labels):
    with pytest.raises(DataError, match="want|labels"):
        Dataset("bad", images, np.array(labels, np.int64), tuple("abcd"))


def test_a_data_set_that_is_not_at_hand_says_how_to_get_it(folders):
    with pytest.raises(DataError, match="data get chinese_mnist.*data add chinese_mnist"):
        load_data("chinese_mnist")


def test_an_unknown_data_set_is_named_with_the_known_ones():
    with pytest.raises(DataError, match="'emoji'.*digits"):
        load_data("emoji")


def test_an_added_archive_is_used(folders):
    archive = write_zip(folders / "downloaded.zip", members())
    assert not is_at_hand("chinese_mnist")
    add_data("chinese_mnist", archive)
    assert len(load_data("chinese_mnist").images) == 150
    with pytest.raises(DataError, match="exists already"):
        add_data("chinese_mnist", archive)


def test_what_another_source_would_hide_is_not_added(folders):
    add_data("chinese_mnist", write_zip(folders / "downloaded.zip", members()))
    before = sorted(data_folder().rglob("*"))
    with pytest.raises(DataError, match="zip is read already; remove it .*unpacked"):
        add_data("chinese_mnist", write_folder(folders / "unpacked", members()))
    assert sorted(data_folder().rglob("*")) == before


def test_an_added_folder_is_used(folders):
    add_data("chinese_mnist", write_folder(folders / "unpacked", members()))
    assert len(load_data("chinese_mnist").images) == 150


def test_what_lies_beside_a_data_set_is_not_added(folders):
    source = write_folder(folders / "downloads", {**members(), "tax/2025.pdf": b"private"})
    added, _ = add_data("chinese_mnist", source)
    assert not list(added.rglob("*.pdf"))
    assert len(list(added.rglob("*.jpg"))) == 150


def test_a_link_that_leads_nowhere_is_passed_over(folders):
    added, _ = add_data("chinese_mnist", write_folder(folders / "unpacked", members()))
    (added / ".#open in an editor").symlink_to("nowhere")
    assert len(load_data("chinese_mnist").images) == 150


def test_an_archive_in_an_added_folder_is_used(folders):
    (folders / "downloads").mkdir()
    write_zip(folders / "downloads" / "chinese-mnist.zip", members())
    add_data("chinese_mnist", folders / "downloads")
    assert len(load_data("chinese_mnist").images) == 150


def test_a_bad_archive_is_not_added(folders):
    archive = folders / "a.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DataError, match="not a zip"):
        add_data("chinese_mnist", archive)
    assert find_data("chinese_mnist") is None
    assert not (folders / "data").exists()


def test_a_data_folder_that_cannot_be_written_is_named(folders):
    (folders / "data").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        add_data("chinese_mnist", write_zip(folders / "a.zip", members()))
