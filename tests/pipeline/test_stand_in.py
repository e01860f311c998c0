import pytest

from hwtune.errors import DataError
from hwtune.pipeline.stand_in import choose_data
from hwtune.space import load_space
from tests.data.archives import members, write_zip

CHINESE = load_space("chinese_cnn")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Return an empty data folder on a machine whose network leads nowhere."""
    monkeypatch.setenv("HWTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


def test_auto_takes_the_spaces_own_data_where_they_are(offline, console):
    (offline / "data").mkdir()
    write_zip(offline / "data" / "chinese-mnist.zip", members())
    assert choose_data("auto", CHINESE, console).name == "chinese_mnist"


def test_auto_without_network_draws_characters_under_a_banner(offline, console):
    assert choose_data("auto", CHINESE, console).name == "chinese_strokes"
    said = " ".join(console.file.getvalue().split())
    assert "Kaggle did not send gpreda/chinese-mnist" in said
    assert "NOT REAL HANDWRITING" in said
    assert "hwtune data add chinese_mnist" in said
    assert not list((offline / "data").iterdir())


def test_a_data_set_asked_for_by_name_never_falls_back(offline, console):
    with pytest.raises(DataError, match="data get chinese_mnist"):
        choose_data("chinese_mnist", CHINESE, console)
