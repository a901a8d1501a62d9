"""Frames of camring's cameras, read in place in shared memory.

    import camring

    with camring.attach("front-door") as camera:
        for frame in camera:
            print(frame.sequence, frame.time, frame.y.mean())

``attach`` gives a ``Camera``, ``attach_many`` gives ``Cameras``; both give ``Frame`` objects whose
pixels are NumPy views of the memory that the daemon decoded into. The reference is
docs/reference/python.md, the guide docs/guide/write-a-detector.md.
"""

from __future__ import annotations

from ._camera import Camera, Cameras, Frames, State, attach, attach_many
from ._camring import Frame, Plane, __version__
from ._errors import (
    ClosedError,
    Disconnected,
    Error,
    ForkedError,
    HeldTooMany,
    HttpError,
    NoSuchCamera,
    NotReady,
    NotRunning,
    OptionError,
    PermissionDenied,
    ReadOnlyWarning,
    Refused,
    ReleasedError,
    Timeout,
    VersionMismatch,
    WrongFormat,
)
from ._mark import Marker, StoredMarker, mark, mark_many
from ._status import CameraInfo, cameras, status

__all__ = [
    "Camera",
    "CameraInfo",
    "Cameras",
    "ClosedError",
    "Disconnected",
    "Error",
    "ForkedError",
    "Frame",
    "Frames",
    "HeldTooMany",
    "HttpError",
    "Marker",
    "NoSuchCamera",
    "NotReady",
    "NotRunning",
    "OptionError",
    "PermissionDenied",
    "Plane",
    "ReadOnlyWarning",
    "Refused",
    "ReleasedError",
    "State",
    "StoredMarker",
    "Timeout",
    "VersionMismatch",
    "WrongFormat",
    "__version__",
    "attach",
    "attach_many",
    "cameras",
    "mark",
    "mark_many",
    "status",
]
