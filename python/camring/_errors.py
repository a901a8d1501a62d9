"""Exceptions of camring. Each message says what was found and what to do next."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """Base of everything that camring raises on purpose."""


class NotRunning(Error, ConnectionError):
    """No daemon listens at the socket."""


class Disconnected(NotRunning):
    """The daemon went away; only with ``reconnect=False``."""


class PermissionDenied(Error, PermissionError):
    """The socket's permissions forbid it; the message names the group that may."""


class VersionMismatch(Error):
    """The daemon and this package do not speak the same version of the protocol or ring layout."""


class NoSuchCamera(Error, LookupError):
    """No camera, stream or view of that name, or it was removed; the message lists those there are."""


class Refused(Error):
    """The daemon refused: no pins left, too many clients, no memory, camera disabled."""


class Timeout(Error, TimeoutError):
    """Nothing came in the time given."""


class NotReady(Timeout):
    """The camera has no picture yet, so there is nothing to attach to; the message says why."""


class HeldTooMany(Error):
    """As many frames are held as pins were asked for; the message says by what."""


class ReleasedError(Error):
    """The pixels of a frame were asked for after it was released."""


class WrongFormat(Error, TypeError):
    """The frame's pixel format has no such plane or view."""


class ClosedError(Error, ValueError):
    """The camera was closed."""


class ForkedError(Error):
    """Something attached in a parent process was used in its forked child."""


class OptionError(Error, ValueError):
    """An argument that is not possible."""


class HttpError(Error):
    """The daemon's HTTP API refused; ``problem`` is its answer (RFC 9457), ``status`` the HTTP status."""

    def __init__(
        self, message: str, *, status: int | None = None, problem: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class ReadOnlyWarning(UserWarning):
    """This program runs as root or as the daemon's user: the kernel does not keep it from writing."""
