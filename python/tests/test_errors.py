"""What cannot be done says why, as an exception of its own."""

from __future__ import annotations

import contextlib
import grp
import os
import socket as sockets
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import camring
import pytest
from conftest import StandIn


def test_nobody_is_there(tmp_path: Path) -> None:
    path = tmp_path / "attach.sock"
    with pytest.raises(camring.NotRunning, match=r"is the service running\?") as error:
        camring.attach("yard", socket=path)
    assert isinstance(error.value, ConnectionError)
    assert isinstance(error.value, camring.Error)
    assert str(path) in str(error.value)
    with pytest.raises(camring.NotRunning):
        camring.cameras(socket=path)


@pytest.mark.usefixtures("socket")
def test_no_such_camera(stand_in: StandIn) -> None:
    with pytest.raises(camring.NoSuchCamera, match="yard") as error:
        camring.attach("yrad")
    assert isinstance(error.value, LookupError)
    with pytest.raises(camring.NoSuchCamera, match="yard"):
        camring.attach_many(["yard", "yrad"])
    with pytest.raises(camring.NoSuchCamera, match="yard:detect"):
        camring.attach("yard", view="detect")
    stand_in.camera("yard:detect")
    with camring.attach("yard", view="detect") as camera:
        assert camera.name == "yard:detect"


@pytest.mark.usefixtures("socket")
def test_no_picture_yet(stand_in: StandIn) -> None:
    stand_in.say("pending porch")
    with pytest.raises(camring.NotReady, match="porch") as error:
        camring.attach("porch", timeout=0.2)
    assert isinstance(error.value, TimeoutError)


@pytest.mark.usefixtures("socket")
def test_no_room(stand_in: StandIn) -> None:
    with pytest.raises(camring.Refused, match="pins"):
        camring.attach("yard", pins=60)
    assert stand_in.say("attachments") == "0"


@pytest.mark.usefixtures("socket")
def test_impossible_arguments() -> None:
    for pins in (0, 65):
        with pytest.raises(camring.OptionError, match="pins"):
            camring.attach("yard", pins=pins)
    with pytest.raises(camring.OptionError, match="at least one"):
        camring.attach_many([])
    with pytest.raises(camring.OptionError, match="name length"):
        camring.attach("")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_no_permission_names_the_group() -> None:
    group = grp.getgrgid(4)
    folder = tempfile.TemporaryDirectory(prefix="camring-python-")
    Path(folder.name).chmod(0o755)
    path = Path(folder.name) / "attach.sock"
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    os.chown(path, 0, group.gr_gid)
    path.chmod(0o660)
    os.seteuid(65534)
    try:
        with pytest.raises(camring.PermissionDenied, match=f"group {group.gr_name}") as error:
            camring.attach("yard", socket=path)
        assert isinstance(error.value, PermissionError)
    finally:
        os.seteuid(0)
        listener.close()
        folder.cleanup()


@contextlib.contextmanager
def daemon_that_says(path: Path, answer: bytes) -> Iterator[None]:
    """Answers the first packet of the first client with `answer`."""
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            if answer:
                client.send(answer)
                client.recv(4096)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        listener.close()


def test_another_version(tmp_path: Path) -> None:
    # A refusal: its code for "version", and words (docs/reference/ring-format.md).
    text = b"this daemon speaks version 9"
    packet = struct.pack("<IIHH", 131, 0, 8, len(text)) + text
    path = tmp_path / "attach.sock"
    with daemon_that_says(path, packet), pytest.raises(camring.VersionMismatch, match="version 9"):
        camring.attach("yard", socket=path)


def test_a_daemon_that_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "attach.sock"
    with daemon_that_says(path, b"hello"), pytest.raises(camring.Error, match="attach protocol"):
        camring.attach("yard", socket=path)
    path.unlink()
    with daemon_that_says(path, b""), pytest.raises(camring.Disconnected):
        camring.attach("yard", socket=path)


@pytest.mark.usefixtures("socket")
def test_root_is_warned() -> None:
    """The stand-in runs as this user, for whom read-only is a convention."""
    with pytest.warns(camring.ReadOnlyWarning, match="user of its own"):
        camring.attach("yard").close()
