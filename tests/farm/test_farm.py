"""The test cameras keep their promises: a small RTSP client checks what arrives."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import clips
from framecode import MAX_INDEX

HERE = Path(__file__).resolve().parent
PATIENCE_S = 30


class Packet(NamedTuple):
    channel: int
    data: bytes

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.data[2:4], "big")

    @property
    def time(self) -> int:
        return int.from_bytes(self.data[4:8], "big")

    @property
    def marker(self) -> bool:
        return bool(self.data[1] & 0x80)


class Client:
    """One RTSP session over interleaved TCP. `credentials`: user, password."""

    def __init__(self, url: str, credentials: tuple[str, str] | None = None) -> None:
        match = re.fullmatch(r"rtsp://([\d.]+):(\d+)/.*", url)
        assert match
        self.url, self.credentials = url, credentials
        self.socket = socket.create_connection((match[1], int(match[2])), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")
        self.sequence, self.session, self.authorization = 0, "", ""

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def request(self, method: str, url: str = "", extra: str = "") -> tuple[int, str]:
        """Status and head plus body of the answer; packets in between are thrown away."""
        self.sequence += 1
        url = url or self.url
        lines = f"{method} {url} RTSP/1.0\r\nCSeq: {self.sequence}\r\n{extra}"
        if self.session:
            lines += f"Session: {self.session}\r\n"
        if self.authorization:
            lines += f"Authorization: {self._authorize(method, url)}\r\n"
        self.socket.sendall(f"{lines}\r\n".encode())
        while (first := self.file.peek(1)[:1]) == b"$":
            self._packet()
        if not first:
            raise ConnectionResetError
        head = ""
        while (line := self.file.readline().decode()) not in ("\r\n", ""):
            head += line
        length = re.search(r"(?i)content-length: *(\d+)", head)
        body = self.file.read(int(length[1])).decode() if length else ""
        status = int(head.split()[1])
        if status == 401 and self.credentials and not self.authorization:
            challenge = re.search(r"(?i)www-authenticate: *(.*)\r", head)
            assert challenge
            self.authorization = challenge[1]
            return self.request(method, url, extra)
        return status, head + body

    def _authorize(self, method: str, url: str) -> str:
        assert self.credentials
        user, password = self.credentials
        if self.authorization.startswith("Basic"):
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', self.authorization))
        realm, nonce = fields["realm"], fields["nonce"]

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        answer = md5(f"{md5(f'{user}:{realm}:{password}')}:{nonce}:{md5(f'{method}:{url}')}")
        return f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{url}", response="{answer}"'

    def play(self) -> str:
        """DESCRIBE, SETUP, PLAY; returns the answer to PLAY."""
        status, description = self.request("DESCRIBE", extra="Accept: application/sdp\r\n")
        if status != 200:
            raise ConnectionRefusedError(status)
        control = re.findall(r"a=control:(\S+)", description)[-1]
        track = control if control.startswith("rtsp:") else f"{self.url}/{control}"
        _, head = self.request("SETUP", track, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
        session = re.search(r"(?i)session: *([^;\s]+)", head)
        assert session, head
        self.session = session[1]
        status, head = self.request("PLAY")
        assert status == 200, head
        return head

    def _packet(self) -> Packet:
        head = self.file.read(4)
        if len(head) < 4:
            raise ConnectionResetError
        _, channel, length = struct.unpack(">BBH", head)
        return Packet(channel, self.file.read(length))

    def packets(self) -> Iterator[Packet]:
        while True:
            yield self._packet()

    def units(self, count: int) -> list[list[Packet]]:
        """The RTP packets of the next `count` access units, each up to its marker."""
        units: list[list[Packet]] = [[]]
        for packet in self.packets():
            if packet.channel == 0:
                units[-1].append(packet)
                if packet.marker:
                    if len(units) == count:
                        return units
                    units.append([])
        raise AssertionError("unreachable")


def h264_kinds(unit: list[Packet]) -> set[int]:
    """NAL unit types in an access unit (RFC 6184: single NAL units and FU-A)."""
    kinds = set()
    for packet in unit:
        kind = packet.data[12] & 0x1F
        kinds.add(packet.data[13] & 0x1F if kind == 28 else kind)
    return kinds


class Farm:
    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "farm.py"), "--exit-on-eof", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.urls: dict[str, str] = {}
        assert self.process.stdout and self.process.stdin
        while not (line := self.process.stdout.readline()).startswith("READY"):
            if not line:
                raise AssertionError("farm.py ended before it was ready")
            _, name, url, _, _ = line.split()
            self.urls[name] = url

    def __call__(self, command: str) -> dict[str, object]:
        assert self.process.stdout and self.process.stdin
        print(command, file=self.process.stdin, flush=True)
        verdict, _, rest = self.process.stdout.readline().partition(" ")
        assert verdict == "OK", rest
        answer = json.loads(rest)
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        assert self.process.stdout and self.process.stdin
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Cameras(unittest.TestCase):
    def farm(self, *arguments: str) -> Farm:
        farm = Farm(*arguments)
        self.addCleanup(farm.close)
        return farm

    def client(self, url: str, credentials: tuple[str, str] | None = None) -> Client:
        client = Client(url, credentials)
        self.addCleanup(client.close)
        return client

    def test_rtp_time_has_no_seam_and_begins_with_a_key_frame(self) -> None:
        farm = self.farm("--camera", "a=h264-180p@100")
        client = self.client(farm.urls["a"])
        head = client.play()
        units = client.units(250)  # more than twice the clip
        self.assertLessEqual({7, 8, 5}, h264_kinds(units[0]))
        flat = [packet for unit in units for packet in unit]
        for a, b in itertools.pairwise(flat):
            self.assertEqual((a.sequence + 1) & 0xFFFF, b.sequence)
        steps = [b[0].time - a[0].time & 0xFFFFFFFF for a, b in itertools.pairwise(units)]
        self.assertEqual(steps[0] % 900, 0)  # the time between DESCRIBE and PLAY
        self.assertEqual(set(steps[1:]), {900})
        info = dict(re.findall(r"(seq|rtptime)=(\d+)", head))
        self.assertEqual(info, {"seq": str(flat[0].sequence), "rtptime": str(flat[0].time)})

    def test_start_between_key_frames(self) -> None:
        farm = self.farm("--camera", "a=h264-180p,start=3")
        client = self.client(farm.urls["a"])
        client.play()
        units = client.units(25)
        keys = [n for n, unit in enumerate(units) if 5 in h264_kinds(unit)]
        self.assertEqual(keys, [22])

    def test_free_running_cameras_keep_their_rhythm(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sendts"
            farm = self.farm("--camera", "a*2=h264-180p", "--phase", "spread", "--sendts", str(path))
            for number in (0, 1):
                client = self.client(farm.urls[f"a{number}"])
                client.play()
                units = client.units(60)
                keys = [n for n, unit in enumerate(units) if 5 in h264_kinds(unit)]
                self.assertEqual(keys, [0, 1, 26, 51], "one at PLAY, then its own, one a second")
                end = time.monotonic() + PATIENCE_S
                late = 1.0
                while late > 0.3:  # on a busy machine some are sent late
                    self.assertLess(time.monotonic(), end)
                    client.units(25)
                    times = struct.unpack_from("<100q", path.read_bytes(), number * (MAX_INDEX + 1) * 8)
                    late = min((times[key] / 1e9 - number / 2) % 1.0 for key in (0, 25, 50, 75))

    def test_sender_reports_give_the_time_of_sending(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sendts"
            farm = self.farm("--camera", "a=h264-180p", "--rtcp-interval-ms", "300", "--sendts", str(path))
            client = self.client(farm.urls["a"])
            client.play()
            first = None
            for packet in client.packets():
                if packet.channel == 0 and first is None:
                    first = packet.time
                if packet.channel == 1 and packet.data[1] == 200:
                    break
            assert first is not None
            report = struct.unpack(">III", packet.data[8:20])
            wall = report[0] - 2208988800 + report[1] / 2**32
            sent = wall - (report[2] - first & 0xFFFFFFFF) / 90000
            recorded = struct.unpack_from("<q", path.read_bytes(), 0)[0] / 1e9
            recorded += time.time() - time.monotonic()
            self.assertLess(abs(sent - recorded), 0.1)
            self.assertEqual(path.stat().st_size, 8 * (MAX_INDEX + 1))

    def test_passwords(self) -> None:
        for method in ("digest", "basic"):
            farm = self.farm("--camera", f"a=h264-180p,user=u,password=p,auth={method}")
            client = self.client(farm.urls["a"], ("u", "p"))
            client.play()
            self.assertTrue(client.authorization.lower().startswith(method))
            for wrong in (None, ("u", "q")):
                self.assertEqual(self.client(farm.urls["a"], wrong).request("DESCRIBE")[0], 401)

    def test_stop_start_remove(self) -> None:
        farm = self.farm("--camera", "a=h264-180p", "--camera", "b=mjpeg-360p")
        client, other = self.client(farm.urls["a"]), self.client(farm.urls["b"])
        client.play()
        other.play()
        client.units(3)
        farm("stop a")
        with self.assertRaises(ConnectionError):
            for _ in client.packets():
                pass
        with self.assertRaises(ConnectionRefusedError):
            Client(farm.urls["a"])
        farm("start a")
        client = self.client(farm.urls["a"])
        client.play()
        self.assertIn(5, h264_kinds(client.units(1)[0]))
        farm("remove a")
        self.assertEqual(self.client(farm.urls["a"]).request("DESCRIBE")[0], 404)
        farm("start a")
        self.client(farm.urls["a"]).play()
        other.units(3)
        self.assertEqual(farm("clients")["b"], 1)

    def test_pause_is_silent_but_answers_and_resume_begins_with_a_key_frame(self) -> None:
        farm = self.farm("--camera", "a=h264-180p")
        farm("pause a")
        client = self.client(farm.urls["a"])
        client.play()
        for _ in range(3):
            time.sleep(0.2)
            self.assertEqual(client.request("OPTIONS")[0], 200)
        client.socket.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            while client._packet().channel != 0:
                pass
        client.close()
        client = self.client(farm.urls["a"])
        client.play()
        farm("resume a")
        first = client.units(5)
        self.assertIn(5, h264_kinds(first[0]))
        farm("pause a")
        time.sleep(0.5)
        farm("resume a")
        before = first[-1][-1]
        for unit in client.units(30):
            if unit[0].time - before.time & 0xFFFFFFFF > 20000:
                self.assertIn(5, h264_kinds(unit))
                return
            before = unit[-1]
        self.fail("the pause is not to be seen in RTP time")

    def test_lost_packets_leave_gaps(self) -> None:
        farm = self.farm("--camera", "a=h264-360p,lossy")
        client = self.client(farm.urls["a"])
        client.play()
        farm("lose a 0.2")
        client.units(2)
        flat = [packet for unit in client.units(20) for packet in unit]
        gaps = sum((a.sequence + 1) & 0xFFFF != b.sequence for a, b in itertools.pairwise(flat))
        self.assertGreater(gaps, 0)

    def test_hang_accepts_and_is_silent(self) -> None:
        farm = self.farm("--camera", "a=h264-180p")
        farm("hang a")
        client = self.client(farm.urls["a"])
        client.socket.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            client.request("OPTIONS")

    def test_ffprobe_over_udp_loses_nothing(self) -> None:
        farm = self.farm("--camera", "a=h265-360p@50")
        command = ["ffprobe", "-v", "error", "-rtsp_transport", "udp", "-read_intervals", "%+3"]
        command += ["-show_entries", "packet=pts_time", "-of", "csv=p=0", farm.urls["a"]]
        lines = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True
        ).stdout.split()
        times = [float(t.strip(",")) for t in lines if not t.startswith("N/A")]
        self.assertGreater(len(times), 100)
        for a, b in itertools.pairwise(times):
            self.assertAlmostEqual(b - a, 0.02, places=3)

    def test_it_ends_with_its_standard_input(self) -> None:
        farm = Farm("--camera", "a=h264-180p")
        farm.close()
        self.assertEqual(farm.process.returncode, 0)

    def test_a_field_coded_clip_is_sent_by_frames(self) -> None:
        farm = self.farm("--camera", "a=h264-paff@50")
        client = self.client(farm.urls["a"])
        client.play()
        clip = clips.CLIPS["h264-paff"]
        units = client.units(clip.frames)
        self.assertEqual(len({unit[0].time for unit in units}), clip.frames)


if __name__ == "__main__":
    unittest.main()
