"""What the daemon says about its cameras."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from . import _camring


@dataclass(frozen=True)
class CameraInfo:
    """One stream of the daemon's status. ``raw`` has every field of docs/reference/status.md."""

    name: str
    state: str
    reason: str
    since: str
    width: int | None
    height: int | None
    codec: str | None
    fps: float
    subscribers: int
    raw: dict[str, Any] = field(repr=False, compare=False)


def status(*, socket: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The whole status, as ``camring status --json`` prints it. Takes 5 s at most."""
    found = json.loads(_camring.status_json(socket))
    if not isinstance(found, dict):
        raise TypeError(f"the daemon's status is {found!r}")
    return found


def cameras(*, socket: str | os.PathLike[str] | None = None) -> list[CameraInfo]:
    """Every stream of every camera, in the order of the configuration, with its state."""
    return [
        CameraInfo(
            name=camera["name"],
            state=camera["state"],
            reason=camera["reason"],
            since=camera["since"],
            width=camera["width"],
            height=camera["height"],
            codec=camera["codec"],
            fps=camera["fps_published"],
            subscribers=camera["subscribers"],
            raw=camera,
        )
        for camera in status(socket=socket)["cameras"]
    ]
