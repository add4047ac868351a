"""Numbers are short, and never say more or less than they are."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from auditor.findings import Interval, Metric
from auditor_reports.number_text import (
    byte_size,
    duration,
    interval_text,
    iso_moment,
    moment,
    number,
    quantity,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (3.0, "3"),
        (12345, "12,345"),
        (0.123456, "0.1235"),
        (0.99999, "0.99999"),
        (0.9999999, "0.9999999"),
        (-0.17349, "-0.1735"),
        (1.9e-6, "1.9e-06"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "-infinite"),
    ],
)
def test_number(value: float, text: str) -> None:
    """Four digits, more where rounding would make an integer of it."""
    assert number(value) == text


def test_quantity_has_its_unit() -> None:
    """The unit follows the number; without one there is no blank."""
    assert quantity(Metric(name="m", value=2.5, unit="MB")) == "2.5 MB"
    assert quantity(Metric(name="m", value=2.5)) == "2.5"


def test_interval_names_confidence_and_method() -> None:
    """An interval is never a bare pair."""
    assert interval_text(Interval(lower=0.1, upper=0.25, method="Wilson")) == (
        "0.1 to 0.25 (95 %, Wilson)"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 bytes"),
        (1023, "1,023 bytes"),
        (1536, "1.5 KiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**41, "2.0 TiB"),
    ],
)
def test_byte_size(size: int, text: str) -> None:
    """Sizes are in binary units."""
    assert byte_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (42.4, "42 s"), (59.99, "60 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_duration(seconds: float, text: str) -> None:
    """Durations are in the unit a reader would say."""
    assert duration(seconds) == text


def test_moment_is_in_utc() -> None:
    """A time in another zone is shown in UTC."""
    there = datetime(2026, 3, 1, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert moment(there) == "28 February 2026, 23:02:03 UTC"
    assert iso_moment(there) == "2026-02-28T23:02:03.000Z"


def test_moment_without_a_zone_is_taken_as_utc() -> None:
    """The machine's own zone never shows in a report."""
    naive = datetime(2026, 3, 1, 1, 2, 3)
    assert moment(naive) == moment(naive.replace(tzinfo=UTC))
