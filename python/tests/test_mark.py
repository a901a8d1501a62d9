"""Markers over HTTP, against a server that does as it is told: what is sent, and what errors become."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import camring
import pytest

TIME_NS = 1_795_248_900_123_456_789
TIME = "2026-11-21T08:15:00.123456789Z"


@dataclass
class Seen:
    """As much of a frame as a marker needs."""

    camera: str = "door"
    time_ns: int = TIME_NS


class Server(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes] | None] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        if self.server.answers:
            answer = self.server.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, text = answer
        else:
            camera = self.path.split("/")[4]
            stored = [{**marker, "camera": camera, "frame_time": TIME} for marker in body["markers"]]
            status, text = 201, json.dumps({"markers": stored}).encode()
        if status == 0:
            self.server.release.wait(60)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("CAMRING_URL", server.url)
    # The client asks nobody else.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_frames_time_is_sent_to_the_nanosecond(server: Server) -> None:
    end = datetime(2026, 11, 21, 8, 15, 2, tzinfo=UTC)
    stored = camring.mark(
        Seen("door/sub:detect"), "person", score=0.5, box=(0, 0.25, 1, 0.5), data={"id": 7}, end=end
    )
    assert (stored.camera, stored.label, stored.frame_time_ns) == ("door", "person", TIME_NS)
    ((path, body),) = server.requests
    assert path == "/api/v1/cameras/door/markers"
    (sent,) = body["markers"]
    assert sent == {
        "id": stored.id,
        "stream": "sub",
        "start": TIME,
        "end": "2026-11-21T08:15:02.000000000Z",
        "label": "person",
        "score": 0.5,
        "box": [0, 0.25, 1, 0.5],
        "data": {"id": 7},
    }


def test_the_url_is_given_or_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMRING_URL", "http://127.0.0.1:1")
    camring.mark(Seen(), "x", url=f"{server.url}/behind/a/proxy/")
    assert server.requests[0][0] == "/behind/a/proxy/api/v1/cameras/door/markers"
    with pytest.raises(camring.NotRunning, match="CAMRING_URL"):
        camring.mark(Seen(), "x")


def test_many_are_sent_camera_by_camera_in_their_order(server: Server) -> None:
    markers = [
        camring.Marker.of(Seen("door" if n % 2 else "yard", TIME_NS + n), "x", end=TIME_NS + n + 5)
        for n in range(2500)
    ]
    stored = camring.mark_many(markers)
    assert [marker.id for marker in stored] == [marker.id for marker in markers]
    assert [len(body["markers"]) for _, body in server.requests] == [1000, 250, 1000, 250]
    assert camring.mark_many([]) == []


def test_a_lost_answer_is_asked_for_again_with_the_same_id(server: Server) -> None:
    server.answers = [None]
    stored = camring.mark(Seen(), "x")
    (_, first), (_, second) = server.requests
    assert first == second
    assert second["markers"][0]["id"] == stored.id


def test_what_the_daemon_says_is_in_the_error(server: Server) -> None:
    problem = {
        "type": "/problems/invalid",
        "title": "Not a marker",
        "status": 422,
        "detail": "#/label: is empty",
    }
    server.answers = [(422, json.dumps(problem).encode())]
    with pytest.raises(camring.HttpError, match="is empty") as caught:
        camring.mark(Seen(), "")
    assert (caught.value.status, caught.value.problem) == (422, problem)
    unknown = {"type": "/problems/unknown-camera", "detail": "no camera is called door"}
    server.answers = [(404, json.dumps(unknown).encode())]
    with pytest.raises(camring.NoSuchCamera, match="no camera is called door"):
        camring.mark(Seen(), "x")
    not_ours = [(502, b"<html>"), (404, b"[1]"), (200, b"hello"), (201, b"{}"), (200, b'{"markers": [1]}')]
    for status, text in not_ours:
        server.answers = [(status, text)]
        with pytest.raises(camring.HttpError, match="camring"):
            camring.mark(Seen(), "x")


def test_a_daemon_that_does_not_answer_is_not_waited_for(server: Server) -> None:
    server.answers = [(0, b"")]
    with pytest.raises(camring.Timeout, match=r"within 0\.2 s"):
        camring.mark(Seen(), "x", timeout=0.2)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"data": object()}, "JSON"),
        ({"score": float("nan")}, "JSON"),
        ({"box": (0, 0, float("inf"), 1)}, "JSON"),
        ({"end": datetime(2026, 1, 1)}, "time zone"),
        ({"end": 10**40}, "no time"),
        ({"url": "ftp://door"}, "http://"),
        ({"url": "door:8080"}, "http://"),
        ({"url": "http://door:x"}, "http://"),
    ],
)
def test_what_cannot_be_a_marker_is_not_sent(server: Server, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(camring.OptionError, match=word):
        camring.mark(Seen(), "x", **arguments)
    assert not server.requests
