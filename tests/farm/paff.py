"""Writes H.264 with one coded picture per field (PAFF), which no free encoder produces.

Only what a decoder test needs: CAVLC, I_PCM macroblocks where something changed, P_Skip elsewhere, no
deblocking. References are to ITU-T H.264 (08/2021). Every group begins with an IDR top field, whose
bottom field is an ordinary P field; fields of one frame share their frame_num (7.4.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from framecode import Plane

_LOG2_MAX_FRAME_NUM = 8
_I_PCM = 25
_P_FIRST_INTRA = 5


class _Bits:
    def __init__(self) -> None:
        self._text: list[str] = []

    def u(self, width: int, value: int) -> _Bits:
        self._text.append(format(value, f"0{width}b"))
        return self

    def ue(self, value: int) -> _Bits:
        code = format(value + 1, "b")
        self._text.append("0" * (len(code) - 1) + code)
        return self

    def se(self, value: int) -> _Bits:
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    def align(self, bit: str = "0") -> _Bits:
        """Fills the last byte: pcm_alignment_zero_bit."""
        short = -sum(map(len, self._text)) % 8
        self._text.append(bit * short)
        return self

    def stop(self) -> _Bits:
        """rbsp_trailing_bits."""
        return self.u(1, 1).align()

    def take(self) -> bytes:
        """All whole bytes; must be aligned."""
        text = "".join(self._text)
        assert len(text) % 8 == 0
        self._text.clear()
        return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def _nal(ref_idc: int, kind: int, rbsp: bytes) -> bytes:
    """A NAL unit with start code and emulation prevention (7.3.1)."""
    first, *rest = rbsp.split(b"\0\0")
    out = bytearray(first)
    for part in rest:
        out += b"\0\0\3" if not part or part[0] <= 3 else b"\0\0"
        out += part
    return b"\0\0\0\1" + bytes([ref_idc << 5 | kind]) + bytes(out)


def parameter_sets(width: int, height: int, fps: int) -> bytes:
    """SPS (Main, level 3.0, frame_mbs_only_flag 0, POC type 2) and PPS (CAVLC)."""
    assert width % 16 == 0 and height % 32 == 0
    sps = _Bits().u(8, 77).u(8, 0).u(8, 30).ue(0)
    sps.ue(_LOG2_MAX_FRAME_NUM - 4).ue(2).ue(2).u(1, 0)  # two reference frames: both fields of the last one
    sps.ue(width // 16 - 1).ue(height // 32 - 1)
    sps.u(1, 0).u(1, 0).u(1, 1).u(1, 0)  # frame_mbs_only, mb_adaptive, direct_8x8, no cropping
    sps.u(1, 1)  # VUI: only timing, and no reordering
    sps.u(1, 0).u(1, 0).u(1, 0).u(1, 0)
    sps.u(1, 1).u(32, 1).u(32, 2 * fps).u(1, 1)
    sps.u(1, 0).u(1, 0).u(1, 1)
    sps.u(1, 1).u(1, 1).ue(0).ue(0).ue(10).ue(10).ue(0).ue(2)
    pps = _Bits().ue(0).ue(0).u(1, 0).u(1, 0).ue(0).ue(0).ue(0)
    pps.u(1, 0).u(2, 0).se(0).se(0).se(0).u(1, 1).u(1, 0).u(1, 0)
    return _nal(3, 7, sps.stop().take()) + _nal(3, 8, pps.stop().take())


def _macroblocks(y: Plane, u: Plane, v: Plane) -> list[list[bytes]]:
    """The 384 PCM bytes of each macroblock of a field."""
    rows, columns = y.shape[0] // 16, y.shape[1] // 16
    blocks = np.concatenate(
        [
            plane.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows, columns, -1)
            for plane, size in ((y, 16), (u, 8), (v, 8))
        ],
        axis=2,
    )
    return [[blocks[r, c].tobytes() for c in range(columns)] for r in range(rows)]


def _field(
    blocks: list[list[bytes]],
    old: list[list[bytes]] | None,
    *,
    frame_num: int,
    bottom: bool,
    idr: bool,
    idr_id: int,
) -> bytes:
    intra = old is None
    bits = _Bits().ue(0).ue(7 if intra else 5).ue(0)
    bits.u(_LOG2_MAX_FRAME_NUM, frame_num).u(1, 1).u(1, bottom)
    if idr:
        bits.ue(idr_id)
    if not intra:
        bits.u(1, 0).u(1, 0)  # num_ref_idx_active_override, ref_pic_list_modification
    bits.u(2, 0) if idr else bits.u(1, 0)  # dec_ref_pic_marking: sliding window
    bits.se(0).ue(1)  # slice_qp_delta, no deblocking
    out, skipped = bytearray(), 0
    for r, row in enumerate(blocks):
        for c, block in enumerate(row):
            if old is not None and old[r][c] == block:
                skipped += 1
                continue
            if not intra:
                bits.ue(skipped)
                skipped = 0
            out += bits.ue(_I_PCM if intra else _P_FIRST_INTRA + _I_PCM).align().take() + block
    if not intra and skipped:
        bits.ue(skipped)
    out += bits.stop().take()
    return _nal(3, 5 if idr else 1, bytes(out))


def encode(
    pictures: Iterator[tuple[Plane, Plane, Plane]], width: int, height: int, fps: int, gop: int
) -> Iterator[bytes]:
    """One access unit pair (top and bottom field) per picture; each group of `gop` frames is closed."""
    before: list[list[list[bytes]] | None] = [None, None]
    for n, picture in enumerate(pictures):
        key = n % gop == 0
        frame = parameter_sets(width, height, fps) if key else b""
        for bottom in (False, True):
            y, u, v = (plane[bottom::2] for plane in picture)
            blocks = _macroblocks(y, u, v)
            # The bottom field of an IDR picture refers to its top field.
            old = (before[0] if bottom else None) if key else before[bottom]
            frame += _field(
                blocks,
                old,
                frame_num=n % gop % (1 << _LOG2_MAX_FRAME_NUM),
                bottom=bottom,
                idr=key and not bottom,
                idr_id=n // gop % 2,
            )
            before[bottom] = blocks
        yield frame
