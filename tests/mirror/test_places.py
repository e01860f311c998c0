import re

import pytest

from hwtune.addresses import without_secrets
from hwtune.cli.studies import command_line
from hwtune.errors import OptionError
from hwtune.mirror.places import open_uri


def test_keys_in_a_uri_are_told_to_nobody(monkeypatch):
    for given, told in (
        ("s3://key:secret@bucket/a?b=c", "s3://bucket/a?b=c"),
        ("--mirror=s3://key:se/cret@bucket/x", "--mirror=s3://bucket/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("s3://key:it's@bucket/x", "s3://bucket/x"),
        ("abfs://c@host/x?sv=2&sig=a%2Fb&se=3", "abfs://c@host/x?sv=2&sig=&se=3"),
        ("s3://b/x?session_token=abc", "s3://b/x?session_token="),
    ):
        assert without_secrets(given) == told
    monkeypatch.setattr("sys.argv", ["hwtune", "search", "--mirror=s3://key:secret@bucket/x"])
    assert command_line() == "hwtune search --mirror=s3://bucket/x"
    for uri in ("s3x://key:secret@bucket/x", "s3://key:secret@bucket/x"):
        with pytest.raises(OptionError, match="has a key in it; .* in the environment") as refused:
            open_uri(uri)
        assert "secret" not in str(refused.value)
    with pytest.raises(OptionError, match="not a place to mirror to"):
        open_uri("s3://[x")


@pytest.mark.parametrize("uri", ["nowhere://x/y", "relative", "hf://datasets/x", "fsspec+no://x"])
def test_no_place_to_mirror_to_is_a_users_mistake(uri):
    with pytest.raises(OptionError, match=re.escape(uri)):
        open_uri(uri)
