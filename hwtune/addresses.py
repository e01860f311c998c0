"""How this machine reaches a Ray cluster, settled before Ray is imported; parts of URIs."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import urlsplit, urlunsplit

from hwtune.errors import ClusterError

SECRET = "(?i:sig|key|secret|token|password)"  # in the name of a part of a URI's query


def reach_out(address: str | None) -> None:
    """Let Ray leave the loopback interface for a cluster that does; it reads this when imported.

    Raises:
        ClusterError: when that is no address of a cluster.
    """
    if not address:
        return
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address {address!r}: hwtune must run on a machine of the cluster; give HOST:PORT "
            "or auto there."
        )
    if address != "auto" and not address.rpartition(":")[2].isdecimal():
        raise ClusterError(
            f"--address {address!r} names no port; give HOST:PORT (Ray's own is 6379) or auto."
        )
    if not on_loopback_alone(address):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"


def on_loopback_alone(address: str) -> bool:
    """Return whether a cluster at 127.0.0.1:PORT does not listen on this machine's own address.

    Ray would look for it there.
    """
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdecimal():
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing, but chooses an interface
            socket.create_connection((route.getsockname()[0], int(port)), timeout=2).close()
        except OSError:
            return True
    return False


def around(uri: str) -> str:
    """Return the place of a mirrored study's folder, as --mirror takes it."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").rpartition("/")[0]))


def without_secrets(text: str) -> str:
    """Return a text without the password with its user, key or token that a URI in it may hold."""
    bare = re.sub(r"://[^\s@]*:[^\s@]*@", "://", text)
    return re.sub(rf"([?&][^\s=&]*{SECRET}[^\s=&]*=)[^\s&#'\"]+", r"\1", bare)
