"""GStreamer: a gst-launch-1.0 per camera ends in shmsink; one reader has a shmsrc and an appsink for each.
Usage: gstreamer_shm.py FOLDER, until SIGTERM, with the Python that has gi (Debian's)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import gi
import numpy as np
from witness import Witness, end_on_sigterm

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

BUFFERS = 8  # that fit into the shared memory of a camera
SEND = (
    "setpriv --pdeathsig KILL gst-launch-1.0 -q rtspsrc location={url} protocols=tcp latency=0 "
    "! rtph264depay ! h264parse ! avdec_h264 "
    "! shmsink socket-path={socket} shm-size={size} wait-for-connection=false sync=false"
)
RECEIVE = (
    "shmsrc socket-path={socket} is-live=true do-timestamp=true ! {caps} "
    "! appsink name=out emit-signals=true sync=false"
)


class Reader:
    """The pipelines of the process that wants the pictures."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.pipelines: list[Gst.Element] = []

    def add(self, camera: int, socket: Path) -> None:
        witness = self.witness
        caps = (
            f"video/x-raw,format=I420,width={witness.width},height={witness.height},framerate={witness.fps}/1"
        )
        pipeline = Gst.parse_launch(RECEIVE.format(socket=socket, caps=caps))
        pipeline.get_by_name("out").connect("new-sample", self.on_sample, camera)
        pipeline.set_state(Gst.State.PLAYING)
        self.pipelines.append(pipeline)

    def on_sample(self, sink: Gst.Element, camera: int) -> Gst.FlowReturn:
        sample = sink.emit("pull-sample")
        held = time.monotonic_ns()
        good, view = sample.get_buffer().map(Gst.MapFlags.READ)
        if good:
            witness = self.witness
            size = witness.width * witness.height
            luma = np.frombuffer(view.data, np.uint8, size).reshape(witness.height, witness.width)
            witness.held(camera, luma, held)
            del luma
            sample.get_buffer().unmap(view)
        return Gst.FlowReturn.OK


def main() -> None:
    folder = Path(sys.argv[1])
    Gst.init(None)
    witness = Witness(folder)
    size = witness.width * witness.height * 3 // 2 * BUFFERS
    senders: list[subprocess.Popen[bytes]] = []
    end_on_sigterm()
    try:
        sockets = [folder / f"shm-{camera}" for camera in range(len(witness.urls))]
        for url, socket in zip(witness.urls, sockets, strict=True):
            command = shlex.split(SEND.format(url=url, socket=socket, size=size))
            senders.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        reader = Reader(witness)
        for camera, socket in enumerate(sockets):
            while not socket.exists():
                time.sleep(0.005)
            reader.add(camera, socket)
        loop = GLib.MainLoop()
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGTERM, loop.quit)
        loop.run()
    finally:
        witness.write()
        # The reader goes without further ado: what its clients do shall not matter to shmsink. SIGINT lets
        # gst-launch end in order; SIGTERM would leave its memory behind.
        for sender in senders:
            sender.send_signal(signal.SIGINT)
        for sender in senders:
            try:
                sender.wait(timeout=10)
            except subprocess.TimeoutExpired:
                sender.kill()
                sender.wait()
            for left in Path("/dev/shm").glob(f"shmpipe.{sender.pid}.*"):
                left.unlink(missing_ok=True)
        os._exit(0)


if __name__ == "__main__":
    main()
