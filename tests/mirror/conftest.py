import logging
from urllib.request import urlopen

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

from hwtune.records import EpochRecord
from hwtune.results import create_study


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, monkeypatch):
    """Return the URI of a folder on a disk, or in an object store here, with its query."""
    if request.param == "file":
        yield (tmp_path / "shared").as_uri(), ""
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    query = f"?scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
    system, _ = FileSystem.from_uri(f"s3://bucket/studies{query}")
    system.create_dir("bucket")
    yield "s3://bucket/studies", query
    urlopen(f"http://127.0.0.1:{port}/moto-api/reset", data=b"").close()  # it outlives its server
    server.stop()


@pytest.fixture
def soon(monkeypatch):
    """Let a mirror try again at once."""
    monkeypatch.setattr("hwtune.mirror.uploads.RETRY_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path):
    """Return a small study's."""
    return small_study(tmp_path / "here")


def small_study(results):
    """Make a study of one epoch, with a state, and return its folder."""
    made = create_study(results, "s", "s", about={"format": 1}, source="SPACE = 1\n")
    made.append_epoch(EpochRecord(0, 1, 0.1, 0.2, 0.9, 0.1, 1.0))
    (made.checkpoints / "0.pt").write_bytes(b"state")
    made.journal.write_text("{}\n")
    return made
