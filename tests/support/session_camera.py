#!/usr/bin/python3
"""A few RTSP cameras for the session tests, served by GStreamer's RTSP server.

    session_camera.py --mount /cam=CLIP.h264@25 [--mount ...] [--port N]
                      [--login basic|digest --user U --password-file F]

Each mount plays an elementary stream (Annex B .h264/.h265 with access unit delimiters, or
concatenated JPEGs in .mjpeg) in a loop, live, with continuous timestamps, to all its viewers.
Prints "READY port=N" once it listens, then a line per event: "CONNECT", "PLAY", "TEARDOWN".
Ends when standard input closes, so that it cannot outlive the test that started it.
"""
import argparse
import os
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def say(line):
    print(line, flush=True)


def split(data, separators):
    """Cuts `data` before each occurrence of any of `separators`."""
    cuts = set()
    for separator in separators:
        at = data.find(separator)
        while at >= 0:
            cuts.add(at)
            at = data.find(separator, at + len(separator))
    cuts = sorted(cuts) + [len(data)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:])]


class Clip:
    def __init__(self, spec):
        path, fps = spec.rsplit("@", 1)
        self.fps = int(fps)
        with open(path, "rb") as f:
            data = f.read()
        kind = os.path.splitext(path)[1]
        if kind == ".h264":
            self.units = split(data, [b"\0\0\0\1\x09"])
            caps, pay = "video/x-h264,stream-format=byte-stream,alignment=au", "rtph264pay pt=96"
        elif kind == ".h265":
            self.units = split(data, [b"\0\0\0\1\x46\x01"])
            caps, pay = "video/x-h265,stream-format=byte-stream,alignment=au", "rtph265pay pt=96"
        elif kind == ".mjpeg":
            self.units = split(data, [b"\xff\xd8\xff"])
            # rtpjpegpay needs the size; it is in the SOF0 segment.
            sof = data.index(b"\xff\xc0")
            height, width = (int.from_bytes(data[sof + i : sof + i + 2], "big") for i in (5, 7))
            caps, pay = f"image/jpeg,width={width},height={height}", "rtpjpegpay pt=26"
        else:
            sys.exit(f"unknown kind of clip: {path}")
        if len(self.units) < 2:
            sys.exit(f"{path} has {len(self.units)} access units")
        self.launch = (
            f"( appsrc name=src is-live=true format=time caps={caps},framerate={self.fps}/1"
            f" ! {pay} name=pay0 )"
        )


class Mount(GstRtspServer.RTSPMediaFactory):
    def __init__(self, clip):
        super().__init__()
        self.clip = clip
        self.set_shared(True)
        self.set_latency(0)

    def do_create_element(self, url):
        return Gst.parse_launch(self.clip.launch)

    def do_configure(self, media):
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        over = threading.Event()
        media.connect("unprepared", lambda _: over.set())
        source = media.get_element().get_by_name("src")
        threading.Thread(target=self.feed, args=(source, over), daemon=True).start()

    def feed(self, source, over):
        """Pushes the clip at its own pace until the media is gone."""
        while source.get_state(0)[1] != Gst.State.PLAYING:
            if over.wait(0.01):
                return
        frame_ns = Gst.SECOND // self.clip.fps
        first_pts = source.get_clock().get_time() - source.get_base_time()
        started, n = time.monotonic(), 0
        while True:
            wait = started + n / self.clip.fps - time.monotonic()
            if over.wait(max(0.0, wait)):
                return
            buffer = Gst.Buffer.new_wrapped(self.clip.units[n % len(self.clip.units)])
            buffer.pts = buffer.dts = first_pts + n * frame_ns
            buffer.duration = frame_ns
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            n += 1


def protect(server, factories, method, user, password):
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for factory in factories:
        role = Gst.Structure.new_empty("viewer")
        role.set_value("media.factory.access", True)
        role.set_value("media.factory.construct", True)
        factory.add_role_from_structure(role)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mount", action="append", required=True, metavar="/PATH=CLIP@FPS")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--login", choices=["basic", "digest"])
    parser.add_argument("--user", default="viewer")
    parser.add_argument("--password-file")
    args = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(args.port))
    factories = []
    for mount in args.mount:
        path, spec = mount.split("=", 1)
        factory = Mount(Clip(spec))
        factories.append(factory)
        server.get_mount_points().add_factory(path, factory)
    if args.login:
        with open(args.password_file, encoding="utf-8") as f:
            protect(server, factories, args.login, args.user, f.read())

    def connected(_, client):
        say("CONNECT")
        client.connect("play-request", lambda *_: say("PLAY"))
        client.connect("teardown-request", lambda *_: say("TEARDOWN"))

    server.connect("client-connected", connected)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {args.port}")
    loop = GLib.MainLoop()

    def parent():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=parent, daemon=True).start()
    say(f"READY port={server.get_bound_port()}")
    loop.run()


main()
