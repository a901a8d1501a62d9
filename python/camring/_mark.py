"""Markers: telling the daemon what was seen on a frame, over its HTTP API.

Only the standard library's ``http.client`` is used: no proxies, one request at a time, every one with
a time limit. Each marker gets an id here, so that a request whose answer was lost can be sent again.
"""

from __future__ import annotations

import http.client
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlsplit

from ._errors import HttpError, NoSuchCamera, NotRunning, OptionError, Timeout

DEFAULT_URL = "http://127.0.0.1:8080"
_BATCH = 1000
"""As many as the server takes at a time."""
_LONGEST_ANSWER = 32 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FrameLike(Protocol):
    """What a marker needs of a frame."""

    @property
    def camera(self) -> str: ...
    @property
    def time_ns(self) -> int: ...


Moment: TypeAlias = FrameLike | datetime | int
"""A frame, a ``datetime`` with a time zone, or UTC nanoseconds since 1970."""


@dataclass(frozen=True)
class Marker:
    """Something seen: made from a frame with ``Marker.of``, stored with ``mark_many``.

    ``camera``: the name attached to, ``front-door``, ``front-door/sub`` or ``front-door:detect``.
    ``start_ns``, ``end_ns``: UTC, nanoseconds since 1970; a frame's ``time_ns``, and the marker shows on
    exactly that frame. ``box``: x, y, width and height, as parts of the picture, 0 to 1. ``data``:
    anything that JSON can say, 16 KiB at most.
    """

    camera: str
    label: str
    start_ns: int
    end_ns: int | None = None
    score: float | None = None
    box: Sequence[float] | None = None
    data: Any = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(
        cls,
        frame: FrameLike,
        label: str,
        *,
        score: float | None = None,
        box: Sequence[float] | None = None,
        data: Any = None,  # noqa: ANN401 - whatever JSON can say
        end: Moment | None = None,
    ) -> Marker:
        """From a frame, or anything with its ``camera`` and ``time_ns``; released frames too."""
        return cls(
            camera=frame.camera,
            label=label,
            start_ns=frame.time_ns,
            end_ns=None if end is None else _ns(end),
            score=score,
            box=box,
            data=data,
        )

    @property
    def _place(self) -> tuple[str, str | None]:
        """Camera and stream: without the view."""
        camera, _, stream = self.camera.split(":", 1)[0].partition("/")
        return camera, stream or None

    def _json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"id": self.id, "start": _rfc3339(self.start_ns), "label": self.label}
        _, stream = self._place
        if stream is not None:
            body["stream"] = stream
        if self.end_ns is not None:
            body["end"] = _rfc3339(self.end_ns)
        if self.score is not None:
            body["score"] = float(self.score)
        if self.box is not None:
            body["box"] = [float(number) for number in self.box]
        if self.data is not None:
            body["data"] = self.data
        return body


@dataclass(frozen=True)
class StoredMarker:
    """A marker as the daemon has it. ``raw`` has every field of docs/reference/api.md."""

    id: str
    camera: str
    label: str
    frame_time_ns: int | None
    """Capture time of the recorded picture; None while it is not on the disk yet, or nothing is recorded."""
    raw: dict[str, Any] = field(repr=False, hash=False)


def mark(
    frame: FrameLike,
    label: str,
    *,
    score: float | None = None,
    box: Sequence[float] | None = None,
    data: Any = None,  # noqa: ANN401 - whatever JSON can say
    end: Moment | None = None,
    url: str | None = None,
    timeout: float = 10.0,
) -> StoredMarker:
    """Stores a marker on a frame: it shows on exactly that frame of the recording.

    ``score``: how sure. ``box``: x, y, width and height, as parts of the picture. ``data``: anything
    that JSON can say. ``end``: until when, a frame, a ``datetime`` or nanoseconds. ``url``: the daemon's,
    else ``$CAMRING_URL``, else ``http://127.0.0.1:8080``. ``timeout``: seconds, for the whole call.

    Raises ``NotRunning``, ``Timeout``, ``NoSuchCamera``, ``HttpError`` with what the daemon says, and
    ``OptionError`` for what cannot be a marker.
    """
    marker = Marker.of(frame, label, score=score, box=box, data=data, end=end)
    return mark_many([marker], url=url, timeout=timeout)[0]


def mark_many(
    markers: Iterable[Marker], *, url: str | None = None, timeout: float = 10.0
) -> list[StoredMarker]:
    """Stores markers of any cameras, in requests of up to 1000 of one camera; the answers in their order.

    Each request is stored whole or not at all. ``timeout`` is for each. Sending the same ``Marker``
    objects again after an error stores none twice.
    """
    markers = list(markers)
    cameras: dict[str, list[int]] = {}
    for at, marker in enumerate(markers):
        cameras.setdefault(marker._place[0], []).append(at)
    stored: dict[int, StoredMarker] = {}
    for camera, places in cameras.items():
        for first in range(0, len(places), _BATCH):
            batch = places[first : first + _BATCH]
            answer = _post(url, camera, [markers[at]._json() for at in batch], timeout)
            stored.update(zip(batch, answer, strict=True))
    return [stored[at] for at in range(len(markers))]


def _post(url: str | None, camera: str, markers: list[dict[str, Any]], timeout: float) -> list[StoredMarker]:
    try:
        body = json.dumps({"markers": markers}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise OptionError(f"a marker that JSON cannot say: {error}") from None
    server = (url or os.environ.get("CAMRING_URL") or DEFAULT_URL).rstrip("/")
    path = f"/api/v1/cameras/{quote(camera, safe='')}/markers"
    try:
        status, answer = _request(server, path, body, timeout)
    except (http.client.BadStatusLine, ConnectionResetError, BrokenPipeError):
        # It may have been stored: the ids say so then.
        status, answer = _request(server, path, body, timeout)
    if status not in (200, 201):
        raise _error(server, status, answer)
    try:
        found = json.loads(answer)["markers"]
        return [_stored(marker) for marker in found]
    except (ValueError, KeyError, TypeError):
        raise HttpError(f"{server} answers, but not as camring does: is it another program?") from None


def _request(server: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    parts = urlsplit(server)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in kinds or not parts.hostname or port == -1:
        raise OptionError(f"no URL of a daemon: {server!r}; write http://HOST:PORT")
    connection = kinds[parts.scheme](parts.hostname, port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", parts.path.rstrip("/") + path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(_LONGEST_ANSWER)
    except TimeoutError:
        raise Timeout(f"no answer of {server} within {timeout} s") from None
    except (http.client.BadStatusLine, ConnectionResetError, BrokenPipeError):
        raise
    except (OSError, http.client.HTTPException) as error:
        hint = "is the daemon running, with [http] listen? Set url= or $CAMRING_URL"
        raise NotRunning(f"no daemon at {server}: {error}; {hint}") from None
    finally:
        connection.close()


def _error(server: str, status: int, answer: bytes) -> Exception:
    try:
        problem = json.loads(answer)
        assert isinstance(problem, dict)
    except (ValueError, AssertionError):
        return HttpError(f"{server} answers {status}: is it camring?", status=status)
    detail = str(problem.get("detail") or problem.get("title") or "no reason given")
    if problem.get("type") == "/problems/unknown-camera":
        return NoSuchCamera(detail)
    return HttpError(f"{detail} (HTTP {status})", status=status, problem=problem)


def _stored(raw: Any) -> StoredMarker:  # noqa: ANN401 - of a program that may be any
    if not isinstance(raw, dict):
        raise TypeError(raw)
    frame_time = raw.get("frame_time")
    return StoredMarker(
        id=raw["id"],
        camera=raw["camera"],
        label=raw["label"],
        frame_time_ns=None if frame_time is None else _from_rfc3339(frame_time),
        raw=raw,
    )


def _ns(moment: Moment) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise OptionError(f"{moment} has no time zone: use datetime.now(UTC)")
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    return moment if isinstance(moment, int) else moment.time_ns


def _rfc3339(ns: int) -> str:
    """To the nanosecond, which a ``datetime`` cannot."""
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        time = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise OptionError(f"{ns} is no time in nanoseconds since 1970") from None
    return f"{time:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _from_rfc3339(text: str) -> int:
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int(rest.ljust(9, "0")[:9] or 0)
