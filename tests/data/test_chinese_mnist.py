import codecs
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from hwtune.data.chinese_mnist import VALUES, find_chinese_mnist, read_chinese_mnist
from hwtune.errors import DataError
from tests.data.archives import members, write_folder, write_zip

IMAGE = "data/data/input_1_1_1.jpg"


@pytest.fixture(scope="module")
def files():
    return members()


def test_zip_and_folder_give_the_same_images(tmp_path, files):
    zipped = read_chinese_mnist(write_zip(tmp_path / "a.zip", files))
    folder = read_chinese_mnist(write_folder(tmp_path / "a", files))
    assert zipped.images.shape == (150, 64, 64)
    assert zipped.sha256 == folder.sha256
    assert np.bincount(zipped.labels).tolist() == [10] * 15
    assert set(zipped.writers) == {1}


def test_the_real_archive_has_all_writers_and_characters(real_data):
    dataset = read_chinese_mnist(find_chinese_mnist(real_data))
    assert dataset.images.shape == (15000, 64, 64)
    assert np.bincount(dataset.labels).tolist() == [1000] * 15
    assert np.bincount(dataset.writers)[1:].tolist() == [150] * 100
    unit = dataset.images / 255
    assert unit.mean() == pytest.approx(0.0086, abs=5e-5)  # the figures of the data's description
    assert unit.std() == pytest.approx(0.0545, abs=5e-4)


def refused(path, message):
    with pytest.raises(DataError, match=message):
        read_chinese_mnist(path)


def test_a_zip_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"<html>not found</html>")
    refused(path, "is not a zip archive")


def test_a_cut_zip_is_refused(tmp_path, files):
    path = write_zip(tmp_path / "a.zip", files)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "is not a zip archive")


def test_a_zip_with_flipped_bytes_is_refused(tmp_path, files):
    path = write_zip(tmp_path / "a.zip", files)
    content = bytearray(path.read_bytes())
    for index in range(3000, 60_000, 50):
        content[index] ^= 0xFF
    path.write_bytes(bytes(content))
    refused(path, "damaged|no image")


def test_a_zip_without_its_table_is_refused(tmp_path, files):
    rest = {name: content for name, content in files.items() if name != "chinese_mnist.csv"}
    refused(write_zip(tmp_path / "a.zip", rest), "lacks chinese_mnist.csv")


def test_a_zip_without_some_images_is_refused_with_their_number(tmp_path, files):
    rest = {name: content for name, content in files.items() if "_1_3_" not in name}
    refused(write_zip(tmp_path / "a.zip", rest), r"lacks 15 of 150 images \(the first: input_1_3_")


def test_an_image_of_another_size_is_refused(tmp_path, files):
    content = io.BytesIO()
    Image.new("L", (65, 64)).save(content, "JPEG")
    changed = {**files, IMAGE: content.getvalue()}
    refused(write_zip(tmp_path / "a.zip", changed), "input_1_1_1.jpg is 65x64 pixels")


def test_an_image_of_huge_size_is_refused_before_it_is_decoded(tmp_path, files):
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    changed = {**files, IMAGE: content.getvalue()}
    refused(write_zip(tmp_path / "a.zip", changed), "is not an image")


def test_an_image_that_is_none_is_refused(tmp_path, files):
    refused(
        write_zip(tmp_path / "a.zip", {**files, IMAGE: b"?"}), "input_1_1_1.jpg is not an image"
    )


def test_a_member_that_names_the_folder_itself_is_harmless(tmp_path, files):
    path = write_zip(tmp_path / "a.zip", {"./": b"", **files})
    assert len(read_chinese_mnist(path).images) == 150


def test_an_image_of_another_format_is_refused_undecoded(tmp_path, files):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    refused(write_zip(tmp_path / "a.zip", {**files, IMAGE: eps}), "input_1_1_1.jpg is not an image")


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil"])
def test_a_path_that_climbs_out_is_refused(tmp_path, files, name):
    refused(write_zip(tmp_path / "a.zip", {**files, name: b"x"}), "climbs out of its folder")
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, files):
    bomb = {**files, IMAGE: bytes(50_000_000)}
    refused(write_zip(tmp_path / "a.zip", bomb), "would unpack to 50,000,000 bytes")


def test_a_zip_bomb_whose_header_lies_is_not_unpacked(tmp_path, files):
    size = 50_000_000
    path = write_zip(tmp_path / "a.zip", {**files, IMAGE: bytes(size)})
    content = path.read_bytes().replace(struct.pack("<L", size), struct.pack("<L", 900))
    path.write_bytes(content)
    tracemalloc.start()
    refused(path, "is damaged")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 5


def test_a_zip_packed_without_a_bound_is_refused(tmp_path, files):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    refused(path, "not packed as Kaggle packs it")


def test_a_table_bomb_is_refused(tmp_path, files):
    bomb = {**files, "chinese_mnist.csv": bytes(50_000_000)}
    refused(write_zip(tmp_path / "a.zip", bomb), "would unpack to 50,000,000 bytes")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,1,16,0,?", "code 16"),
        ("101,1,1,0,?", "suite_id 101"),
        ("1,0,1,0,?", "sample_id 0"),
        ("1,x,1,0,?", "cannot be read"),
        ("1,1,1,0,零", "150 of them different"),
    ],
)
def test_a_bad_row_of_the_table_is_refused(tmp_path, files, row, message):
    table = files["chinese_mnist.csv"] + b"\r\n" + row.encode()
    refused(write_zip(tmp_path / "a.zip", {**files, "chinese_mnist.csv": table}), message)


def test_a_table_without_its_columns_is_refused(tmp_path, files):
    changed = {**files, "chinese_mnist.csv": b"a,b\r\n1,2"}
    refused(write_zip(tmp_path / "a.zip", changed), "needs the columns")


def pickled(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_arrays_is_read(tmp_path, protocol):
    images = np.arange(30 * 64 * 64, dtype=np.uint32).reshape(30, 64, 64).astype(np.uint8)
    path = tmp_path / "chn_mnist"
    path.write_bytes(
        pickle.dumps({"images": images, "targets": np.arange(30) % 15}, protocol=protocol)
    )
    dataset = read_chinese_mnist(path)
    assert np.array_equal(dataset.images, images)
    assert dataset.writers is None


@pytest.mark.parametrize("dtype", [float, np.uint8])
def test_images_given_as_fractions_of_white_are_scaled(tmp_path, dtype):
    images = np.linspace(0, 1, 15 * 64 * 64).reshape(15, 64, 64).round(3).astype(dtype)
    path = pickled(tmp_path / "chn_mnist", {"images": images, "targets": np.arange(15)})
    assert np.array_equal(read_chinese_mnist(path).images, np.rint(images * 255))


def test_targets_given_as_numbers_become_labels(tmp_path):
    content = {"images": np.zeros((15, 64, 64), np.uint8), "targets": np.array(VALUES)}
    dataset = read_chinese_mnist(pickled(tmp_path / "chn_mnist", content))
    assert dataset.labels.tolist() == list(range(15))


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(pickled(tmp_path / "chn_mnist", Evil()), "posix.system, which is not an array")
    assert not (tmp_path / "evil").exists()


class Forged:
    """An array of object pointers made of the attacker's bytes."""

    def __reduce__(self):
        return np.ndarray, ((1,), np.dtype("O"), b"A" * 8)


def test_a_pickle_that_forges_pointers_is_refused(tmp_path):
    content = {"images": Forged(), "targets": np.zeros(1, int)}
    refused(pickled(tmp_path / "chn_mnist", content), "pickle of arrays|no numbers")


class Swollen:
    """A pickle of a few bytes that asks for gigabytes."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return np.arange(8).__reduce_ex__(5)[0], self.parts


def test_a_small_pickle_cannot_ask_for_much_memory(tmp_path, monkeypatch):
    targets = np.zeros(1, int)
    claimed = Swollen(9**9, np.dtype("u1"), (9**9,), "C")  # so many zeros, by bytes(9**9)
    content = {"images": claimed, "targets": targets}
    refused(pickled(tmp_path / "chn_mnist", content), "not made of bytes")
    lists = [0] * 1000
    for _ in range(3):  # 10^12 numbers, each list of which is pickled once
        lists = [lists] * 1000
    refused(pickled(tmp_path / "chn_mnist", {"images": lists, "targets": targets}), "the arrays")
    monkeypatch.setattr("hwtune.data.pickles.MAX_BYTES", 30_000)
    text = "a" * 10_000

    class Again:
        def __reduce__(self):
            return codecs.encode, (text, "latin1")

    refused(pickled(tmp_path / "chn_mnist", [Again() for _ in range(4)]), "more than 2 GB of bytes")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 2_500_000_000),  # so many bytes, none of which is there
        b"\x80\x02}r"
        + struct.pack("<I", 2**26)
        + b".",  # an empty dict, noted as the 2**26th thing
    ],
)
def test_a_few_bytes_make_no_large_list(tmp_path, content):
    (tmp_path / "chn_mnist").write_bytes(content)
    tracemalloc.start()
    refused(tmp_path / "chn_mnist", "more than 2 GB|the arrays")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_an_array_of_objects_is_refused(tmp_path):
    content = {"images": np.array([{}]), "targets": np.zeros(1, int)}
    refused(pickled(tmp_path / "chn_mnist", content), "'O8', which are not numbers")


@pytest.mark.parametrize("dtype", [">u2", "<f4", "f8", "i8", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_number_and_order_are_read(tmp_path, dtype, order):
    images = (np.arange(2 * 64 * 64).reshape(2, 64, 64) % 256).astype(dtype, order=order)
    path = pickled(tmp_path / "chn_mnist", {"images": images, "targets": np.arange(2)})
    assert np.array_equal(read_chinese_mnist(path).images, images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": 3, "targets": np.zeros(3, int)}, "the arrays"),
        ({"images": [[1], [1, 2]], "targets": np.zeros(2, int)}, "the arrays"),
        ({"images": np.zeros((0, 64, 64)), "targets": np.zeros(0, int)}, "must be numbers"),
        ({"images": np.full((1, 64, 64), np.nan), "targets": np.zeros(1, int)}, "outside"),
        ([1, 2], "must hold a dict"),
        ({"images": np.zeros((3, 32, 32), np.uint8), "targets": np.zeros(3, int)}, "want 64x64"),
        ({"images": np.zeros((3, 64, 64), np.uint8), "targets": np.array([0, 1, 15])}, "0 to 15"),
        ({"images": np.full((3, 64, 64), 300.0), "targets": np.zeros(3, int)}, "outside 0..255"),
        ({"images": np.zeros((3, 64, 64), np.uint8), "targets": np.zeros(2, int)}, "2 labels"),
        ({"images": np.zeros((3, 64, 64), np.uint8), "targets": np.zeros(3)}, "whole number"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content, message):
    refused(pickled(tmp_path / "chn_mnist", content), message)


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (b"}", b"K\x01s", "other keys than texts"),
        (b"}(", b"K\x01u", "other keys than texts"),
        (b"(", b"K\x01d", "other keys than texts"),
        (b"\x8f(", b"\x90", "holds a set"),
        (b"(", b"\x91", "holds a set"),
    ],
)
def test_a_pickle_that_would_take_for_ever_to_look_up_is_refused(tmp_path, begin, end, said):
    """Each tuple holds the one before twice: as a key, or in a set, it has 2**25 parts to hash."""
    key = b")" + b"2\x86" * 25  # (), then so many times: twice what is there, as a tuple
    (tmp_path / "chn_mnist").write_bytes(b"\x80\x04" + begin + key + end + b".")
    refused(tmp_path / "chn_mnist", said)


def test_a_damaged_pickle_is_refused(tmp_path):
    path = tmp_path / "chn_mnist"
    path.write_bytes(b"\x80\x04\x95garbage")
    refused(path, "neither a zip nor a pickle of arrays")


def test_every_name_of_the_archive_is_found(tmp_path, files):
    assert find_chinese_mnist(tmp_path) is None
    path = write_zip(tmp_path / "chinese-mnist.zip", files)
    assert find_chinese_mnist(tmp_path) == path
    path.unlink()
    write_folder(tmp_path, files)
    assert find_chinese_mnist(tmp_path) == tmp_path


def test_an_encrypted_member_is_refused(tmp_path, files):
    path = write_zip(tmp_path / "a.zip", files)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1  # the flag that says "encrypted"
            start = content.find(signature, start + 4)
    path.write_bytes(bytes(content))
    assert zipfile.is_zipfile(path)
    refused(path, "damaged")
