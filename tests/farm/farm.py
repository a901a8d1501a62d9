#!/usr/bin/python3
"""Test cameras: GStreamer's RTSP server sending the clips of clips.py for ever (Debian's /usr/bin/python3).

    farm.py --camera door=h264-720p --camera 'yard=h265-720p@5,user=u,password=p,auth=basic'
    farm.py --camera 'cam*50=h264-720p6'                cam0 ... cam49

Each camera has a port of its own, as real ones have addresses of their own; the system chooses it unless
--port gives the first. A camera begins with a key frame when its first client plays, and repeats its clip
without a seam in RTP time; it stands still while nobody watches. Access units are split once and pushed
without copying, nothing is parsed or encoded while it runs: 60 cameras of 720p at 6 pictures and 2 Mbit/s
cost a quarter of a core.

--camera NAME[*COUNT]=CLIP[@FPS][,OPTION...]     CLIP: a name of clips.py, or a file
    user=U,password=P     asks for these; auth=digest (default) or basic
    unshared              a picture of its own for each client; else all see the same
    start=K               begins K pictures after the key frame
    lossy                 allows `lose`: one more element in the way of each packet
    audio=CODEC           sound beside the video, aac, latm or alaw: a click at the beginning of each
                          second of the clip, over a steady tone

Writes "CAMERA NAME URL TAG PICTURES" for each (tag of the frame code, pictures in the clip), then
"READY port=FIRST n=COUNT". Then it obeys lines on its standard input, and answers each with "OK {json}"
or "ERROR text":
    stop NAME       power off: drops its clients, refuses connections
    start NAME      power on again, same port
    hang NAME       accepts connections and never answers (until `start`)
    remove NAME     answers, but has no such stream: 404 (until `start`)
    pause NAME      silent: no picture is sent, keepalives are answered (before PLAY: none at all)
    resume NAME     goes on with a key frame
    lose NAME P     loses each RTP packet with probability P (camera option lossy)
    clients         number of connected clients per camera
    stats           CPU seconds, pictures sent and sent late (> 20 ms), TEARDOWN requests
    quit

--phase KIND says when key frames come:
    play      (default) a camera's clip begins when its client plays, as with encoders started on demand
    aligned   free-running cameras, the key frames of all come at the same moment: the worst case
    spread    free-running, key frames spread evenly over a group of pictures
    random    free-running, scattered without a rule, but alike in every run
A free-running camera sends one key frame at PLAY and goes on with the next one of its own rhythm, which no
client moves.

--sendts FILE: an array of int64, 16384 per camera in order: CLOCK_MONOTONIC ns just before the picture with
that index in its clip was last sent (what the frame code says), 0 if never.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import functools
import heapq
import json
import math
import mmap
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import clips
import gi
import sound
import streams
from framecode import MAX_INDEX

gi.require_version("Gst", "1.0")
gi.require_version("GstRtp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

LATE_S = 0.02
SENDTS_SLOTS = MAX_INDEX + 1
PHASES = ("play", "aligned", "spread", "random")
PAYLOADERS = {"h264": "rtph264pay pt=96", "h265": "rtph265pay pt=97", "mjpeg": "rtpjpegpay pt=26"}


def say(text: str) -> None:
    """One line to whoever started the farm; ends quietly when nobody reads any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os._exit(0)


@dataclasses.dataclass
class Settings:
    """One --camera, as written."""

    name: str
    clip: str
    fps: Fraction | None = None
    user: str = ""
    password: str = ""
    auth: str = "digest"
    unshared: bool = False
    lossy: bool = False
    tls: bool = False
    audio: str = ""
    start: int = 0


def parse_camera(text: str) -> list[Settings]:
    """NAME[*COUNT]=CLIP[@FPS][,OPTION...]; raises ArgumentTypeError."""
    name, equals, rest = text.partition("=")
    clip, *options = rest.split(",")
    if not (name and equals and clip):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=CLIP[@FPS][,OPTION...]")
    name, _, count = name.partition("*")
    clip, _, fps = clip.partition("@")
    known = {field.name for field in dataclasses.fields(Settings)} - {"name", "clip", "fps"}
    values: dict[str, Any] = {"fps": Fraction(fps) if fps else None}
    for option in options:
        key, equals, value = option.partition("=")
        if key not in known or (not equals) != (key in ("unshared", "lossy", "tls")):
            raise argparse.ArgumentTypeError(f"{text!r}: unknown or incomplete option {option!r}")
        values[key] = int(value) if key == "start" else value or True
    if values.get("auth", "digest") not in ("digest", "basic"):
        raise argparse.ArgumentTypeError(f"{text!r}: auth is digest or basic")
    if values.get("audio", "aac") not in sound.CODECS:
        raise argparse.ArgumentTypeError(f"{text!r}: audio is one of {' '.join(sound.CODECS)}")
    names = [f"{name}{i}" for i in range(int(count))] if count else [name]
    return [Settings(name=n, clip=clip, **values) for n in names]


class Clip:
    """A clip ready to send: access units as GStreamer memory, shared by all its cameras."""

    def __init__(self, path: Path, fps: Fraction, known: clips.Clip | None = None) -> None:
        stream = streams.load(path, fields=known is not None and known.interlaced == "paff")
        self.fps, self.tag = fps, known.tag if known else 0
        # By how many pictures each is shown later than it is sent: not 0 where there are B pictures.
        self.delays = [known.shown(n) - n if known else 0 for n in range(len(stream.units))]
        self.units = stream.units
        self.buffers = [Gst.Buffer.new_wrapped(unit.data) for unit in stream.units]
        self.parameters = stream.parameters
        self.payloader = PAYLOADERS[stream.codec]
        if stream.codec == "mjpeg":
            caps = f"image/jpeg,width={stream.width},height={stream.height}"
        else:
            caps = f"video/x-{stream.codec},stream-format=byte-stream,alignment=au"
        self.caps = f"{caps},framerate={fps.numerator}/{fps.denominator}"

    @staticmethod
    @functools.cache
    def get(name: str, fps: Fraction | None) -> Clip:
        known = clips.CLIPS.get(name)
        if known:
            return Clip(clips.ensure(name), fps or Fraction(known.fps), known)
        if fps is None:
            raise SystemExit(f"farm: {name} is no clip of clips.py; for a file, write {name}@FPS")
        return Clip(Path(name), fps)

    @functools.cached_property
    def gop(self) -> int:
        """Pictures from the first key frame to the next."""
        return self.key_from(1) or len(self.units)

    def key_from(self, position: int) -> int:
        """The first key frame at or after a position, modulo the clip."""
        count = len(self.units)
        return next(p % count for p in range(position, position + count) if self.units[p % count].key)

    def buffer(self, position: int, *, with_parameters: bool) -> Gst.Buffer:
        unit = self.units[position]
        if with_parameters and not unit.key:
            return Gst.Buffer.new_wrapped(self.parameters + unit.data)
        return self.buffers[position].copy_region(Gst.BufferCopyFlags.MEMORY, 0, len(unit.data))


class Feed:
    """The pictures of one media instance. Only its first is sent before a client plays: the server needs it
    to describe the stream, and holds it back. After PLAY the others follow in the same grid of time."""

    def __init__(self, camera: Camera, source: Gst.Element) -> None:
        self.camera, self.clip, self.source = camera, camera.clip, source
        self.position = camera.settings.start % len(self.clip.units)
        self.tick = 0  # time of the next picture, in frame intervals since the first
        self.first_at = 0.0  # monotonic seconds
        self.first_pts = 0
        self.sent = 0
        self.playing = False
        self.sound: sound.Feed | None = None
        self.live = True
        self.broken = False  # something was held back from the client: only a key frame helps

    def due(self) -> float:
        return self.first_at + float(self.tick / self.clip.fps)

    def join_rhythm(self) -> None:
        """A free-running camera: the next picture is the next key frame of its own rhythm, which come at its
        phase plus the multiples of a group's length on CLOCK_MONOTONIC."""
        interval = float(1 / self.clip.fps)
        group = self.clip.gop * interval
        phase = self.camera.phase or 0.0
        at = (math.floor(time.monotonic() / group - phase) + 1 + phase) * group
        self.tick = max(self.tick, 1, math.floor((at - self.first_at) / interval))
        shift = at - self.due()
        self.first_at += shift
        self.first_pts = max(0, self.first_pts + int(shift * Gst.SECOND))
        self.position = self.clip.key_from(self.position)

    def skip_to_now(self) -> None:
        """After a while in which nothing was sent: goes on at the next tick that is not over yet."""
        if self.camera.phase is not None:
            self.join_rhythm()
            return
        behind = (time.monotonic() - self.first_at) * float(self.clip.fps)
        self.tick = max(self.tick, math.ceil(behind))

    def push(self) -> bool:
        """Sends one picture. False: the media cannot take any now (not started yet, or on its way out)."""
        if self.source.get_state(0)[1] != Gst.State.PLAYING and self.sent == 0:
            return False
        clock = self.source.get_clock()
        if clock is None:
            return False
        if self.sent == 0:
            self.first_at = time.monotonic()
            self.first_pts = max(0, clock.get_time() - self.source.get_base_time())
        if self.broken:
            self.position, self.broken = self.clip.key_from(self.position), False
        buffer = self.clip.buffer(self.position, with_parameters=self.sent == 0)
        shown = self.tick + self.clip.delays[self.position]
        buffer.pts = self.first_pts + int(shown * Gst.SECOND / self.clip.fps)
        buffer.dts = self.first_pts + int(self.tick * Gst.SECOND / self.clip.fps)
        self.camera.note_sent(self.position)
        if self.source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return False
        if self.sound is not None:
            ends = self.first_pts + int((self.tick + 1) * Gst.SECOND / self.clip.fps)
            self.sound.push(buffer.dts, ends, int(self.position * Gst.SECOND / self.clip.fps))
        self.position = (self.position + 1) % len(self.clip.units)
        self.tick += 1
        self.sent += 1
        return True


class Pacer(threading.Thread):
    """One thread that sends every picture of every camera when it is due."""

    def __init__(self) -> None:
        super().__init__(name="pacer", daemon=True)
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Feed]] = []
        self._order = 0
        self.sent = self.late = 0

    def schedule(self, feed: Feed, at: float) -> None:
        with self._changed:
            self._order += 1
            heapq.heappush(self._heap, (at, self._order, feed))
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                due, _, feed = heapq.heappop(self._heap)
            if feed.live:
                self._send(feed, due)

    def _send(self, feed: Feed, due: float) -> None:
        # The lock orders this with PLAY and with `pause`, which come from other threads.
        with feed.camera.lock:
            if feed.sent and not (feed.playing and not feed.camera.paused):
                return  # PLAY or `resume` schedules it again
            pushed = feed.push()
            again = feed.due() if pushed else time.monotonic() + 0.005
            waits_for_play = pushed and not feed.playing
        if pushed:
            self.sent += 1
            self.late += time.monotonic() - due > LATE_S
        elif feed.sent:
            return  # the media is being taken down
        if not waits_for_play:
            self.schedule(feed, again)


class Factory(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """Makes the media of one camera when a client asks for it."""

    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self.camera = camera
        self.set_shared(not camera.settings.unshared)
        self.set_latency(0)
        self.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)

    def do_create_element(self, _url: GstRtsp.RTSPUrl) -> Gst.Element:
        clip = self.camera.clip
        element = Gst.parse_launch(
            f"( appsrc name=src is-live=true format=time max-bytes=0 caps={clip.caps} )"
        )
        loss = " ! identity name=loss silent=true" if self.camera.settings.lossy else ""
        payload = Gst.parse_bin_from_description(clip.payloader + loss, True)
        payload.set_name("pay0")
        element.add(payload)
        element.get_by_name("src").link(payload)
        if self.camera.settings.audio:
            sound.add(element, self.camera.settings.audio)
        return element

    def do_configure(self, media: GstRtspServer.RTSPMedia) -> None:
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        element = media.get_element()
        feed = Feed(self.camera, element.get_by_name("src"))
        if self.camera.settings.audio:
            feed.sound = sound.Feed(self.camera.settings.audio, element.get_by_name("sound"))
        element.get_parent().connect("deep-element-added", self._on_element, feed)
        if self.camera.settings.lossy:
            self.camera.loss_elements.append(element.get_by_name("loss"))
        self.camera.add_feed(media, feed)

    def _on_element(self, _pipeline: Gst.Bin, _bin: Gst.Bin, element: Gst.Element, feed: Feed) -> None:
        kind = element.get_factory().get_name()
        if kind == "rtpsession":
            element.set_property("rtcp-min-interval", self.camera.farm.rtcp_interval_ms * Gst.MSECOND)
        elif kind == "rtpbin":
            element.connect("pad-added", self._on_pad, feed)

    def _on_pad(self, _rtpbin: Gst.Element, pad: Gst.Pad, feed: Feed) -> None:
        if pad.get_name().startswith("send_rtp_src"):
            pad.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._on_packets, feed)

    def _on_packets(self, _pad: Gst.Pad, _info: Gst.PadProbeInfo, feed: Feed) -> Gst.PadProbeReturn:
        """What was already on its way when the camera was paused does not reach the client."""
        if not self.camera.paused:
            return Gst.PadProbeReturn.OK
        feed.broken = True
        return Gst.PadProbeReturn.DROP


def self_signed_certificate() -> Gio.TlsCertificate:
    """What most cameras have: nobody vouches for it."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=camera", "-keyout", "-", "-out", "-"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    return Gio.TlsCertificate.new_from_pem(made.stdout, -1)


class Camera:
    """One camera: its own RTSP server on its own port."""

    def __init__(self, farm: Farm, number: int, settings: Settings) -> None:
        self.farm, self.number, self.settings = farm, number, settings
        self.clip = Clip.get(settings.clip, settings.fps)
        self.phase = farm.phase(number)
        self.lock = threading.RLock()
        self.paused = False
        self.hanging: list[socket.socket] | None = None
        self.feeds: list[Feed] = []
        self.loss_elements: list[Gst.Element] = []
        self.sent = self.teardowns = 0
        self.server = GstRtspServer.RTSPServer()
        self.server.connect("client-connected", self._on_client)
        self._protect()
        self._mount()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((farm.host, farm.first_port + number if farm.first_port else 0))
        self.port = self._listener.getsockname()[1]
        # Holds the port while `stop` has closed the listener: bound, not listening, so it refuses.
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((farm.host, self.port))
        self._watch = 0
        self._listen()

    @property
    def url(self) -> str:
        scheme = "rtsps" if self.settings.tls else "rtsp"
        return f"{scheme}://{self.farm.host}:{self.port}/{self.settings.name}"

    def _protect(self) -> None:
        if not (self.settings.user or self.settings.tls):
            return
        auth = GstRtspServer.RTSPAuth()
        if self.settings.tls:
            auth.set_tls_certificate(self_signed_certificate())
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "viewer")
        if not self.settings.user:
            auth.set_default_token(token)
        elif self.settings.auth == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(self.settings.user, self.settings.password, token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
            basic = GstRtspServer.RTSPAuth.make_basic(self.settings.user, self.settings.password)
            auth.add_basic(basic, token)
        self.server.set_auth(auth)

    def _mount(self) -> None:
        factory = Factory(self)
        if self.settings.user or self.settings.tls:
            role = Gst.Structure.new_empty("viewer")
            role.set_value("media.factory.access", True)
            role.set_value("media.factory.construct", True)
            factory.add_role_from_structure(role)
        self.server.get_mount_points().add_factory(f"/{self.settings.name}", factory)

    def _listen(self) -> None:
        if self.settings.tls:
            # TLS begins where the server itself accepts; such a camera cannot be told to hang.
            self._listener.close()
            self.server.set_address(self.farm.host)
            self.server.set_service(str(self.port))
            self._watch = self.server.attach(None)
            return
        self._listener.listen(256)
        self._watch = GLib.io_add_watch(self._listener.fileno(), GLib.IO_IN, self._on_connection)

    def _on_connection(self, *_: object) -> bool:
        connection, (address, port) = self._listener.accept()
        if self.hanging is not None:
            self.hanging.append(connection)
            return True
        self.server.transfer_connection(Gio.Socket.new_from_fd(connection.detach()), address, port, None)
        return True

    def _on_client(self, _server: GstRtspServer.RTSPServer, client: GstRtspServer.RTSPClient) -> None:
        client.connect("teardown-request", self._on_teardown)

    def _on_teardown(self, *_: object) -> None:
        with self.lock:
            self.teardowns += 1

    # --- pictures

    def note_sent(self, position: int) -> None:
        self.sent += 1
        if self.farm.sendts is not None:
            at = (self.number * SENDTS_SLOTS + position) * 8
            struct.pack_into("<q", self.farm.sendts, at, time.monotonic_ns())

    def add_feed(self, media: GstRtspServer.RTSPMedia, feed: Feed) -> None:
        with self.lock:
            self.feeds.append(feed)
        media.connect("new-state", self._on_state, feed)
        media.connect("unprepared", self._on_unprepared, feed)
        self.farm.pacer.schedule(feed, time.monotonic())

    def _on_state(self, _media: GstRtspServer.RTSPMedia, state: int, feed: Feed) -> None:
        with self.lock:
            was, feed.playing = feed.playing, state == Gst.State.PLAYING
            if feed.playing and not was and feed.sent:
                self._go_on(feed)

    def _on_unprepared(self, _media: GstRtspServer.RTSPMedia, feed: Feed) -> None:
        with self.lock:
            feed.live = False
            self.feeds.remove(feed)

    def _go_on(self, feed: Feed) -> None:
        feed.skip_to_now()
        self.farm.pacer.schedule(feed, feed.due())

    # --- commands

    def _drop_clients(self) -> None:
        self.server.client_filter(
            lambda _server, client: client.close() or GstRtspServer.RTSPFilterResult.REMOVE
        )

    def stop(self) -> None:
        if self._watch:
            GLib.source_remove(self._watch)
            self._watch = 0
            self._listener.close()
        for connection in self.hanging or []:
            connection.close()
        self.hanging = None
        self._drop_clients()

    def start(self) -> None:
        self.stop()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.farm.host, self.port))
        self.paused = False
        self._mount()
        self._listen()

    def hang(self) -> None:
        self.start()
        self.hanging = []

    def remove(self) -> None:
        self.server.get_mount_points().remove_factory(f"/{self.settings.name}")
        self._drop_clients()

    def pause(self) -> None:
        with self.lock:
            self.paused = True

    def resume(self) -> None:
        with self.lock:
            if not self.paused:
                return
            self.paused = False
            for feed in self.feeds:
                if feed.sent and feed.playing:
                    feed.broken = True
                    self._go_on(feed)

    def lose(self, probability: float) -> None:
        if not self.settings.lossy:
            raise ValueError(f"camera {self.settings.name} was not declared lossy")
        for element in self.loss_elements:
            element.set_property("drop-probability", probability)

    def clients(self) -> int:
        return len(self.server.client_filter(lambda *_: GstRtspServer.RTSPFilterResult.REF))


class Farm:
    def __init__(self, arguments: argparse.Namespace, settings: list[Settings]) -> None:
        self.rtcp_interval_ms = arguments.rtcp_interval_ms
        self.host, self.first_port = arguments.host, arguments.port
        self.phases, self.count = arguments.phase, len(settings)
        self.started = time.monotonic()
        self.loop = GLib.MainLoop()
        self.sendts: mmap.mmap | None = None
        if arguments.sendts:
            size = len(settings) * SENDTS_SLOTS * 8
            with Path(arguments.sendts).open("w+b") as file:
                file.truncate(size)
                self.sendts = mmap.mmap(file.fileno(), size)
        self.pacer = Pacer()
        self.pacer.start()
        self.cameras = {s.name: Camera(self, i, s) for i, s in enumerate(settings)}
        GLib.timeout_add_seconds(5, self._end_dead_sessions)

    def phase(self, number: int) -> float | None:
        """Where in its group of pictures a free-running camera is at the clock's zero, 0 to 1."""
        match self.phases:
            case "aligned":
                return 0.0
            case "spread":
                return number / self.count
            case "random":
                return random.Random(number).random()
            case _:
                return None

    def _end_dead_sessions(self) -> bool:
        for camera in self.cameras.values():
            camera.server.get_session_pool().cleanup()
        return True

    def stats(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "seconds": round(time.monotonic() - self.started, 3),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
            "sent": self.pacer.sent,
            "late": self.pacer.late,
            "cameras": {n: {"sent": c.sent, "teardowns": c.teardowns} for n, c in self.cameras.items()},
        }

    def obey(self, line: str) -> str:
        """Runs one command and returns its answer."""
        command, *words = line.split()
        answer: dict[str, Any] = {}
        try:
            match command, words:
                case "stop" | "start" | "hang" | "remove" | "pause" | "resume", [name]:
                    getattr(self.cameras[name], command)()
                case "lose", [name, probability]:
                    self.cameras[name].lose(float(probability))
                case "clients", []:
                    answer = {name: camera.clients() for name, camera in self.cameras.items()}
                case "stats", []:
                    answer = self.stats()
                case "quit", []:
                    self.loop.quit()
                case _:
                    return f"ERROR no such command: {line.strip()}"
        except KeyError as e:
            return f"ERROR no camera {e}; there are: {' '.join(self.cameras)}"
        except (ValueError, OSError) as e:
            return f"ERROR {e}"
        return f"OK {json.dumps(answer)}"

    def listen_to_stdin(self, *, exit_at_end: bool) -> None:
        pending = b""

        def readable(fd: int, _condition: int) -> bool:
            nonlocal pending
            data = os.read(fd, 65536)
            if not data:
                if exit_at_end:
                    self.loop.quit()
                return False
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.strip():
                    say(self.obey(line.decode(errors="replace")))
            return True

        GLib.io_add_watch(0, GLib.IO_IN | GLib.IO_HUP, readable)


def die_with_parent(parent: int) -> None:
    """SIGTERM when the thread that started this process ends (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("farm: the parent has gone")


def main() -> None:
    parent = os.getppid()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camera", action="append", required=True, type=parse_camera, metavar="NAME=CLIP")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="port of the first camera, the next ones follow")
    parser.add_argument("--sendts", metavar="FILE", help="where to keep the send times")
    parser.add_argument(
        "--rtcp-interval-ms", type=int, default=1000, help="least time between sender reports"
    )
    parser.add_argument("--phase", choices=PHASES, default="play", help="when key frames come")
    parser.add_argument("--seconds", type=float, help="ends by itself after this time")
    parser.add_argument("--die-with-parent", action="store_true", help="ends when its parent does")
    parser.add_argument("--exit-on-eof", action="store_true", help="ends when standard input does")
    arguments = parser.parse_args()
    if arguments.die_with_parent:
        die_with_parent(parent)
    settings = [one for group in arguments.camera for one in group]
    if len({s.name for s in settings}) < len(settings):
        parser.error("two cameras have the same name")
    clips.ensure_all([s.clip for s in settings if s.clip in clips.CLIPS])
    Gst.init(None)
    farm = Farm(arguments, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, farm.loop.quit)
    if arguments.seconds:
        GLib.timeout_add(int(arguments.seconds * 1000), farm.loop.quit)
    farm.listen_to_stdin(exit_at_end=arguments.exit_on_eof)
    for camera in farm.cameras.values():
        say(f"CAMERA {camera.settings.name} {camera.url} {camera.clip.tag} {len(camera.clip.units)}")
    first = next(iter(farm.cameras.values()))
    say(f"READY port={first.port} n={len(farm.cameras)}")
    farm.loop.run()
    # No orderly end of the GStreamer threads: the kernel closes their sockets, faster and surer.
    os._exit(0)


if __name__ == "__main__":
    main()
