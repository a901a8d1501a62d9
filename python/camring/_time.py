"""Times of frames."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_ns(time_ns: int) -> datetime:
    """UTC with its time zone, rounded down to microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
