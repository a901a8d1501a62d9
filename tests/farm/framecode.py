"""The frame code: a machine-readable number burned into every test picture.

A picture carries five bands of 32 black or white cells, spread from its first row to its last. Each
band repeats the same word, most significant bit first:

    4 bits  start, 1101
    6 bits  tag of the clip
    14 bits index of the picture in the clip
    8 bits  CRC-8 (polynomial 0x2F) of band number, tag and index

Every band is read on two neighbouring rows, one of each field. So a picture that was overwritten while
it was read, a mix of two pictures, a repeated or a lost picture is seen by its content. The CRC covers
the number of the band: a band in the wrong place does not pass. `tests/support/framecode.rs` is the
same decoder; both are tested on the same clips.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]

CELLS = 32
BANDS = 5
START = 0b1101
MAX_TAG = 63
MAX_INDEX = 16383
BLACK, WHITE, THRESHOLD = 16, 235, 126


@dataclasses.dataclass(frozen=True, order=True)
class Code:
    """What one intact picture says."""

    tag: int
    index: int


class CodeError(Exception):
    """The picture is not intact."""


class Torn(CodeError):
    """Every band is readable, but they are not of the same picture."""


class Unreadable(CodeError):
    """At least one band holds no code: damage, or not a picture of a test clip."""


def crc8(data: bytes) -> int:
    """CRC-8/AUTOSAR: polynomial 0x2F, initial value and final XOR 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x2F) & 0xFF if crc & 0x80 else crc << 1
    return crc ^ 0xFF


def band_height(height: int) -> int:
    """Rows of a band: at least 8, so that a band always covers a whole block of the codec."""
    return max(8, height // 40 // 2 * 2)


def band_top(band: int, height: int) -> int:
    """First row of a band, even."""
    return (height - band_height(height)) * band // (BANDS - 1) // 2 * 2


def word(band: int, code: Code) -> int:
    """The 32 bits of one band."""
    crc = crc8(bytes([band, code.tag, code.index >> 8, code.index & 0xFF]))
    return START << 28 | code.tag << 22 | code.index << 8 | crc


def burn(luma: Plane, code: Code) -> None:
    """Writes the code into a luma plane of at least 64 x 40 pixels."""
    height, width = luma.shape
    cell = width // CELLS
    for band in range(BANDS):
        bits = word(band, code)
        row = np.full(width, BLACK, np.uint8)
        for i in range(CELLS):
            if bits >> (31 - i) & 1:
                row[i * cell : (i + 1) * cell] = WHITE
        top = band_top(band, height)
        luma[top : top + band_height(height)] = row


def _read_band(luma: Plane, band: int) -> Code:
    height, width = luma.shape
    cell = width // CELLS
    middle = band_top(band, height) + band_height(height) // 2
    seen = set()
    for row in luma[middle - 1 : middle + 1].astype(np.uint16):
        left = row[cell // 2 - 1 : cell * CELLS : cell]
        right = row[cell // 2 : cell * CELLS : cell]
        bits = 0
        for value in (left + right).tolist():
            bits = bits << 1 | (value > 2 * THRESHOLD)
        code = Code(bits >> 22 & MAX_TAG, bits >> 8 & MAX_INDEX)
        if bits != word(band, code):
            raise Unreadable(f"band {band} reads {bits:08x}")
        seen.add(code)
    if len(seen) > 1:
        raise Torn(f"the two fields of band {band} differ: {sorted(seen)}")
    return seen.pop()


def read(luma: Plane) -> Code:
    """Reads a luma plane (height, width) of 8-bit samples. Raises Torn or Unreadable."""
    codes = [_read_band(luma, band) for band in range(BANDS)]
    if len(set(codes)) > 1:
        raise Torn(f"bands differ: {codes}")
    return codes[0]
