"""Numbers, sizes, durations and moments as a reader wants them; the same on every machine."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from auditor.findings import Interval, Metric

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def number(value: float, digits: int = 4) -> str:
    """The value with `digits` significant digits, more where fewer would hide a difference.

    A share of 0.99999 is never shown as 1: digits are added until the text is an
    integer only if the value is one.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    for count in range(digits, 18):
        text = f"{value:.{count}g}"
        shown = float(text)  # infinite where rounding up leaves the range
        if math.isfinite(shown) and shown.is_integer() == value.is_integer():
            return text
    return repr(value)


def quantity(metric: Metric) -> str:
    """The metric's value with its unit."""
    return f"{number(metric.value)} {metric.unit}".strip()


def interval_text(interval: Interval) -> str:
    """An interval in words, with its confidence and method."""
    share = number(100 * interval.confidence)
    return f"{number(interval.lower)} to {number(interval.upper)} ({share} %, {interval.method})"


def byte_size(size: int) -> str:
    """A file size in binary units."""
    if abs(size) < 1024:
        return f"{size:,} bytes"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if abs(value) < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:,.1f} TiB"


def duration(seconds: float) -> str:
    """A duration in hours, minutes and seconds."""
    if not math.isfinite(seconds):
        return number(seconds)
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a time zone is taken to be UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def moment(value: datetime) -> str:
    """Date and time in words, in UTC."""
    at = utc(value)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S} UTC"


def iso_moment(value: datetime) -> str:
    """Date and time as ISO 8601 in UTC, to the millisecond."""
    at = utc(value)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
