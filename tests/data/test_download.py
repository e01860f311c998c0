import stat
from pathlib import Path

import pytest

from hwtune.data.chinese_mnist import read_chinese_mnist
from hwtune.data.download import download_kaggle
from hwtune.errors import DataError, DownloadFailure


def program(tmp_path, script):
    """Return a program that stands where the `kaggle` command would."""
    path = tmp_path / "kaggle"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def download(tmp_path, script, check=Path.read_bytes, **options):
    target = tmp_path / "data" / "chinese-mnist.zip"
    options = {"command": program(tmp_path, script), **options}
    download_kaggle("owner/name", target, total=1000, check=check, **options)
    return target


def test_a_download_ends_under_its_final_name(tmp_path):
    target = download(tmp_path, 'printf content > "$5/name.zip"')
    assert target.read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["chinese-mnist.zip"]


def test_a_damaged_download_is_not_kept(tmp_path):
    with pytest.raises(DataError, match="not a zip archive"):
        download(tmp_path, 'printf damaged > "$5/name.zip"', check=read_chinese_mnist)
    assert not list((tmp_path / "data").iterdir())


def test_a_silent_download_is_given_up(tmp_path):
    with pytest.raises(DownloadFailure, match="no byte of owner/name for 0 seconds"):
        download(tmp_path, "sleep 60", silence=0.3)
    assert not list((tmp_path / "data").iterdir())


def test_a_failed_download_says_the_commands_last_words(tmp_path):
    with pytest.raises(DownloadFailure, match="403 - Forbidden"):
        download(tmp_path, "echo working; echo 403 - Forbidden >&2; exit 1")
    assert not list((tmp_path / "data").iterdir())


def test_an_unreachable_server_is_said_in_plain_words(tmp_path):
    words = "HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url: /y"
    with pytest.raises(DownloadFailure, match="its server cannot be reached from here"):
        download(tmp_path, f'echo "{words}"; exit 1')


def test_a_command_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DownloadFailure, match="kaggle command does not start"):
        download(tmp_path, "", command=str(tmp_path / "absent"))
