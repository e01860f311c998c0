import gzip
import shutil
import struct

import numpy as np
import pytest

from hwtune.data import load_data
from hwtune.data.torchvision_sets import FILES, check_kind, copy_torchvision
from hwtune.errors import DataError

FLIPPED = bytearray(gzip.compress(bytes(range(256)) * 99))
FLIPPED[20:200:7] = bytes(26)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Return MNIST/raw with 20 + 10 images, packed."""
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in FILES:
        count = 20 if file.startswith("train") else 10
        if "images" in file:
            header = struct.pack(">IIII", 0x803, count, 28, 28)
            content = np.arange(count * 784, dtype=np.uint32).astype(np.uint8).tobytes()
        else:
            header = struct.pack(">II", 0x801, count)
            content = bytes(index % 10 for index in range(count))
        with gzip.open(folder / f"{file}.gz", "wb") as packed:
            packed.write(header + content)
    return folder


def test_train_and_test_are_joined_and_marked(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "cache"))
    dataset = load_data("mnist")
    assert dataset.images.shape == (30, 28, 28)
    assert dataset.test_from == 20
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{file}.gz" for file in FILES)


@pytest.mark.parametrize("content", [b"not packed", gzip.compress(b"too short", mtime=0), FLIPPED])
def test_a_damaged_file_is_refused(raw, tmp_path, monkeypatch, content):
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "cache"))
    (raw / f"{FILES[0]}.gz").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_data("mnist")


def test_a_bomb_is_refused(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path / "cache"))
    with gzip.open(raw / f"{FILES[0]}.gz", "wb", compresslevel=1) as packed:
        packed.write(bytes(60_000_000))
    with pytest.raises(DataError, match="unpacks to more than"):
        load_data("mnist")


def test_the_real_mnist_is_complete(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("HWTUNE_CACHE", str(tmp_path))
    dataset = load_data("mnist")
    assert (len(dataset.images), dataset.test_from) == (70_000, 60_000)
    assert np.bincount(dataset.labels[60_000:]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    shutil.rmtree(tmp_path)


def test_one_set_is_not_taken_for_another(tmp_path):
    """All have files of the same names; FashionMNIST and KMNIST have 1,000 of each class."""
    even, mnist = np.full(10, 1000), np.full(10, 1000)
    mnist[:2] += 20, -20
    for kind, own, other in (("MNIST", mnist, even), ("KMNIST", even, mnist)):
        check_kind(kind, tmp_path, own)
        check_kind(kind, tmp_path, own // 10)
        with pytest.raises(DataError, match=f"not {kind}; give the files of {kind}"):
            check_kind(kind, tmp_path, other)


def test_what_lies_beside_the_four_files_is_not_copied(raw, tmp_path):
    (raw / "letter.txt").write_text("private")
    copy_torchvision(raw, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {f"{f}.gz" for f in FILES}
