"""Attaching to cameras and going through their frames.

One rule says how long a frame's pixels last: a camera (or a set of cameras) releases the frame that
it gave out last when it is asked for the next one, or closed, unless ``frame.hold()`` was called.
Arrays, memoryviews and tensors made from a frame keep it on their own, until the last is gone.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from . import _camring
from ._camring import Frame
from ._errors import ClosedError, ReadOnlyWarning, Timeout
from ._status import cameras

_PAUSE = 0.25
"""How often an event loop looks by itself, while something is missing or the daemon may be gone."""

_attached: weakref.WeakSet[_camring.Receiver] = weakref.WeakSet()


@dataclass(frozen=True)
class State:
    """Whether a camera is attached now, which writer its ring has, and what is wrong, if known."""

    attached: bool
    generation: int | None
    trouble: str | None


class Cameras:
    """Several cameras with one connection and one wait for all; made by ``attach_many``.

    Any thread may call any method. Threads that share one object share its frames: each frame goes
    to one of them, and releases the frame before it; so give each thread an object of its own, or
    ``hold()`` what it gets.
    """

    def __init__(self, receiver: _camring.Receiver) -> None:
        self._receiver = receiver
        _attached.add(receiver)
        warning = receiver.warning()
        if warning is not None:
            warnings.warn(warning, ReadOnlyWarning, stacklevel=3)

    @property
    def names(self) -> tuple[str, ...]:
        """The names attached to, as asked for."""
        return self._receiver.names

    @property
    def states(self) -> dict[str, State]:
        """What is known about each camera now, by name."""
        return {name: State(*state) for name, state in zip(self.names, self._receiver.states(), strict=True)}

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._receiver.closed

    def close(self) -> None:
        """Detaches. Frames that are held, and arrays, stay good. Waits elsewhere end."""
        self._receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def latest(self) -> Frame | None:
        """The newest frame, if it was not given out yet. Does not wait."""
        return self._receiver.take(False)

    def next(self, timeout: float | None = None, *, in_order: bool = False) -> Frame:
        """The newest frame that was not given out yet; waits for it, ``timeout`` seconds at most.

        ``in_order``: the oldest that is still there instead. Raises ``Timeout``.
        """
        frame = self._receiver.next(timeout, in_order)
        if frame is None:
            raise Timeout(f"no frame of {', '.join(self.names)} within {timeout} s{self._trouble()}")
        return frame

    def _trouble(self) -> str:
        found = [f"{name}: {state.trouble}" for name, state in self.states.items() if state.trouble]
        return f" ({'; '.join(found)})" if found else ""

    def frames(
        self, *, every: float | timedelta | None = None, in_order: bool = False, timeout: float | None = None
    ) -> Frames:
        """An iterator, for ``for`` and for ``async for``.

        ``every``: frames at least so many seconds apart, each the newest then. ``in_order``: every frame
        that is still there, oldest first, instead of the newest. ``timeout``: raise ``Timeout``
        when no frame comes for so many seconds.
        """
        return Frames(self, every=every, in_order=in_order, timeout=timeout)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self.frames()

    def __repr__(self) -> str:
        return f"<camring.{type(self).__name__} {', '.join(self.names)}>"


class Camera(Cameras):
    """One camera; made by ``attach``. What is said of ``Cameras`` goes for it too."""

    @property
    def name(self) -> str:
        """The name attached to, as asked for."""
        return self.names[0]

    @property
    def generation(self) -> int | None:
        """How many writers the ring has had; None while not attached."""
        return self._receiver.states()[0][1]


class Frames:
    """Goes through the frames of cameras, newest next, until they are closed."""

    def __init__(
        self,
        source: Cameras,
        *,
        every: float | timedelta | None = None,
        in_order: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._source = source
        self._every = every.total_seconds() if isinstance(every, timedelta) else every
        self._in_order = in_order
        self._timeout = timeout
        self._due = time.monotonic()

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        try:
            if self._every is None:
                return self._source.next(self._timeout, in_order=self._in_order)
            self._sleep()
            return self._given(self._source.next(self._timeout, in_order=self._in_order))
        except ClosedError:
            raise StopIteration from None

    async def __anext__(self) -> Frame:
        try:
            if self._every is not None:
                wait = self._due - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
            return self._given(await _next(self._source, self._timeout, self._in_order))
        except ClosedError:
            raise StopAsyncIteration from None

    def _sleep(self) -> None:
        # In slices: a close elsewhere ends it.
        while (wait := self._due - time.monotonic()) > 0:
            if self._source.closed:
                return
            time.sleep(min(wait, 0.1))

    def _given(self, frame: Frame) -> Frame:
        if self._every is not None:
            self._due = time.monotonic() + self._every
        return frame


async def _next(source: Cameras, timeout: float | None, in_order: bool) -> Frame:
    """``Cameras.next`` on an event loop, woken by the ring's own socket."""
    receiver = source._receiver
    if not receiver.pollable:
        polling = await asyncio.to_thread(receiver.polling)
        _attached.add(polling)
        source._receiver = polling
        receiver.close()
        receiver = polling
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while True:
        if receiver.incomplete:
            # May talk to the daemon, which may take its time.
            frame = await asyncio.to_thread(receiver.take, in_order)
        else:
            frame = receiver.take(in_order)
        if frame is not None:
            return frame
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            raise Timeout(f"no frame of {', '.join(source.names)} within {timeout} s")
        await _readable(loop, receiver.fds(), _PAUSE if left is None else min(left, _PAUSE))


async def _readable(loop: asyncio.AbstractEventLoop, fds: list[int], timeout: float) -> None:
    """Until one of the descriptors is readable, or the time is over."""
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    timer = loop.call_later(timeout, wake)
    try:
        for fd in fds:
            loop.add_reader(fd, wake)
        await woken
    finally:
        timer.cancel()
        for fd in fds:
            loop.remove_reader(fd)


def _full_name(name: str, view: str | None) -> str:
    return name if view is None else f"{name}:{view}"


def attach(
    name: str,
    *,
    view: str | None = None,
    socket: str | os.PathLike[str] | None = None,
    pins: int = 2,
    corrupt: bool = False,
    reconnect: bool = True,
    timeout: float = 10.0,
) -> Camera:
    """Attaches to a camera: ``front-door``, or ``front-door/sub`` for one of its streams.

    ``view``: a view of it, converted by the daemon. ``socket``: the daemon's, else
    ``$CAMRING_SOCKET``, else ``/run/camring/attach.sock``. ``pins``: how many frames can be held at
    a time, 1 to 64. ``corrupt``: also give out damaged frames. ``reconnect``: survive a restart of
    the daemon. ``timeout``: seconds to wait for the camera's first picture.
    """
    receiver = _camring.Receiver.open(
        [_full_name(name, view)],
        socket=socket,
        pins=pins,
        corrupt=corrupt,
        reconnect=reconnect,
        pollable=False,
        timeout=timeout,
    )
    return Camera(receiver)


def attach_many(
    names: Iterable[str] | None = None,
    *,
    view: str | None = None,
    socket: str | os.PathLike[str] | None = None,
    pins: int = 2,
    corrupt: bool = False,
    reconnect: bool = True,
    timeout: float = 10.0,
) -> Cameras:
    """Attaches to several cameras with one connection; ``frame.camera`` says whose a frame is.

    ``names``: None for all that are enabled, with their main streams. Returns when the first of
    them is ready; the others follow by themselves, ``states`` says which are missing and why. An
    unknown name is an error at once. The rest is as for ``attach``; ``pins`` is for each camera.
    """
    if names is None:
        known = cameras(socket=socket)
        names = [camera.name for camera in known if camera.state != "disabled" and "/" not in camera.name]
    elif isinstance(names, str):
        raise TypeError(f"attach_many takes a list of names: attach_many([{names!r}])")
    receiver = _camring.Receiver.open(
        [_full_name(name, view) for name in names],
        socket=socket,
        pins=pins,
        corrupt=corrupt,
        reconnect=reconnect,
        pollable=False,
        timeout=timeout,
    )
    return Cameras(receiver)


def _after_fork() -> None:
    """In a forked child: lets go of the parent's connections, which would outlive the parent else."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for receiver in list(_attached):
            connection = receiver.connection()
            if connection is not None:
                os.dup2(null, connection, inheritable=False)
    finally:
        os.close(null)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_camring.end_waits)
