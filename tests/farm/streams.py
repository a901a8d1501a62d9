"""Splits an elementary stream into the access units that a camera sends one at a time."""

from __future__ import annotations

import dataclasses
import itertools
import struct
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Unit:
    """One access unit: Annex B with start codes, or one JPEG picture."""

    data: bytes
    key: bool


@dataclasses.dataclass(frozen=True)
class Stream:
    codec: str  # h264 | h265 | mjpeg
    units: tuple[Unit, ...]
    parameters: bytes  # the first parameter sets, Annex B; empty for mjpeg
    width: int = 0  # only known, and only needed, for mjpeg
    height: int = 0


def _nals(data: bytes) -> list[tuple[int, int]]:
    """(offset of the start code, offset of the NAL header) of each NAL unit."""
    found, at = [], data.find(b"\0\0\1")
    while at >= 0:
        found.append((at - 1 if at and data[at - 1] == 0 else at, at + 3))
        at = data.find(b"\0\0\1", at + 3)
    return found


def _h26x(data: bytes, codec: str) -> Stream:
    units: list[Unit] = []
    nals = [*_nals(data), (len(data), len(data))]
    start, pictures, key = 0, 0, False
    parameters = b""
    in_parameters = True
    for (at, header), (end, _) in itertools.pairwise(nals):
        if codec == "h265":
            kind = data[header] >> 1 & 0x3F
            picture, is_key, is_parameters = kind < 32, 16 <= kind <= 21, 32 <= kind <= 34
            first_slice = picture and bool(data[header + 2] & 0x80)
            opens = first_slice or kind in (32, 33, 34, 35, 39)
        else:
            kind = data[header] & 0x1F
            picture, is_key, is_parameters = kind in (1, 5), kind == 5, kind in (7, 8)
            first_slice = picture and bool(data[header + 1] & 0x80)
            opens = first_slice or kind in (6, 7, 8, 9)
        if is_parameters and in_parameters:
            parameters += data[at:end]
        in_parameters = in_parameters and not picture
        if opens and pictures:
            units.append(Unit(data[start:at], key))
            start, pictures, key = at, 0, False
        if picture:
            pictures, key = pictures + 1, key or is_key
    units.append(Unit(data[start:], key))
    return Stream(codec, tuple(units), parameters)


def _jpeg_size(picture: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(picture):
        marker, length = picture[at + 1], int.from_bytes(picture[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC2:
            height, width = struct.unpack(">HH", picture[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise ValueError("a JPEG picture without a frame header")


def _mjpeg(data: bytes) -> Stream:
    starts, at = [], 0
    while (at := data.find(b"\xff\xd8\xff", at)) >= 0:
        starts.append(at)
        at += 3
    pictures = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    width, height = _jpeg_size(pictures[0])
    return Stream("mjpeg", tuple(Unit(p, True) for p in pictures), b"", width, height)


def _pair_fields(stream: Stream) -> Stream:
    """A field-coded stream: both fields of a frame go out together, with one timestamp."""
    pairs = zip(stream.units[::2], stream.units[1::2], strict=True)
    return dataclasses.replace(stream, units=tuple(Unit(a.data + b.data, a.key) for a, b in pairs))


def load(path: Path, *, fields: bool = False) -> Stream:
    """Reads a file made by clips.py, or any .h264, .h265 or .mjpeg file that begins with a key frame."""
    data = path.read_bytes()
    codec = {"hevc": "h265", "mjpg": "mjpeg"}.get(path.suffix[1:], path.suffix[1:])
    if codec not in ("h264", "h265", "mjpeg"):
        raise ValueError(f"{path}: the ending must be .h264, .h265 or .mjpeg")
    stream = _mjpeg(data) if codec == "mjpeg" else _h26x(data, codec)
    if fields:
        stream = _pair_fields(stream)
    if not stream.units[0].key:
        raise ValueError(f"{path}: does not begin with a key frame")
    return stream
