"""Cells are where their experts are, and the words beside the picture say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from auditor.findings import AuditReport, ExpertMapEvidence
from auditor_reports.charts.expert_map import (
    LEFT,
    MAX_COLUMNS,
    MAX_ROWS,
    RIGHT,
    SHADES,
    STRONGEST,
    TOP,
    WIDTH,
    ExpertRow,
    lay_out_expert_map,
)
from auditor_reports.html import render_html
from auditor_reports.html_environment import MAX_BYTES
from auditor_reports.markdown import render_markdown
from tests.golden.sample_report import sample_report
from tests.unit.reports.html_reader import PageReader


def expert_map(
    values: Sequence[Sequence[float | None]], *, marked: tuple[tuple[int, int], ...] = (),
    first: int = 0,
) -> ExpertMapEvidence:  # fmt: skip
    """A map of layers numbered from `first`."""
    return ExpertMapEvidence(
        title="t", layers=tuple(range(first, first + len(values))), experts=len(values[0]),
        values=tuple(tuple(row) for row in values), marked=marked, unit="u",
    )  # fmt: skip


def with_maps(*maps: ExpertMapEvidence) -> AuditReport:
    """The sample report, its results cut to one that holds the maps."""
    report = sample_report()
    result = report.results[0]
    answer = result.answer.model_copy(update={"evidence": maps})
    return report.model_copy(
        update={"results": (result.model_copy(update={"answer": answer}),)}
    )  # fmt: skip


def drawn_cells(evidence: ExpertMapEvidence) -> dict[tuple[int, int], tuple[float, bool]]:
    """Opacity and sign of every cell that is drawn, by row and column."""
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for shade in lay_out_expert_map(evidence).shades:
        for column, row, count in re.findall(r"M(\d+) (\d+)h(\d+)", shade.path):
            for at in range(int(column), int(column) + int(count)):
                assert (int(row), at) not in found
                found[int(row), at] = (shade.opacity, shade.below)
    return found


def test_cells_lie_where_their_experts_are() -> None:
    """Equal neighbours are one stroke, and still two cells."""
    evidence = expert_map([[0.0, 1.0, 1.0], [-1.0, 0.0, 0.5]])
    assert drawn_cells(evidence) == {
        (0, 1): (1.0, False), (0, 2): (1.0, False), (1, 0): (1.0, True), (1, 2): (0.5, False),
    }  # fmt: skip
    assert "M1 0h2" in [shade.path for shade in lay_out_expert_map(evidence).shades]


def test_shades_are_as_wide_as_each_other() -> None:
    """The strongest size has the full colour; sizes of the first ninth are paper."""
    steps = [each / SHADES for each in range(SHADES)]
    cells = drawn_cells(expert_map([[*steps, 1.0]]))
    assert [cells.get((0, at), (0.0, False))[0] for at in range(SHADES + 1)] == [
        *(round(each / (SHADES - 1), 3) for each in range(SHADES)), 1.0,
    ]  # fmt: skip


def test_what_was_not_measured_is_blank_and_counted() -> None:
    evidence = expert_map([[None, 2.0], [None, None]], marked=((1, 0),))
    drawn = lay_out_expert_map(evidence)
    assert set(drawn_cells(evidence)) == {(0, 1)}
    assert drawn.notes == ("Not measured and left blank: 3 of the experts.",)
    assert drawn.rows == (ExpertRow(0, 1, "2", False), ExpertRow(1, 0, "\N{EN DASH}", True))


def test_nothing_but_zeros_is_paper() -> None:
    drawn = lay_out_expert_map(expert_map([[0.0, 0.0]]))
    assert (drawn.shades, drawn.rows, drawn.largest) == ((), (), "0")
    assert drawn.description == "1 layer by 2 experts."


def test_the_table_holds_the_strongest_and_every_marked_expert() -> None:
    """By size, whatever the sign; a weak expert that is marked comes last."""
    values = [[float(each) for each in range(20)], [-float(each) - 0.5 for each in range(20)]]
    rows = lay_out_expert_map(expert_map(values, marked=((5, 1),), first=5)).rows
    assert [row.value for row in rows[:4]] == ["-19.5", "19", "-18.5", "18"]
    assert len(rows) == STRONGEST + 1
    assert rows[-1] == ExpertRow(5, 1, "1", True)


def test_frames_are_around_their_cells() -> None:
    """Of the first and the last expert of a map of four."""
    drawn = lay_out_expert_map(expert_map([[1.0, 2.0], [3.0, 4.0]], marked=((0, 0), (1, 1))))
    wide, high = drawn.scale
    assert wide == (WIDTH - LEFT - RIGHT) / 2
    corners = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)", drawn.frames)
    assert [[float(each) for each in corner] for corner in corners] == [
        [LEFT, TOP, wide, high], [LEFT + wide, TOP + high, wide, high],
    ]  # fmt: skip


def test_ticks_name_layers_and_experts_at_their_cells() -> None:
    """Layers by their own numbers, which need not start at 0."""
    drawn = lay_out_expert_map(expert_map([[1.0] * 64] * 20, first=3))
    assert [tick.label for tick in drawn.layer_ticks] == ["3", "6", "9", "12", "15", "18", "21"]
    assert [tick.label for tick in drawn.expert_ticks] == [str(each) for each in range(0, 64, 10)]
    assert drawn.layer_ticks[1].at == pytest.approx(TOP + 3.5 * drawn.scale[1], abs=0.06)


def test_neighbours_share_a_cell_where_there_are_too_many() -> None:
    """The strongest of them is seen, and that it stands for others is said."""
    values = [[0.0] * (2 * MAX_COLUMNS) for _ in range(2 * MAX_ROWS)]
    values[3][5] = -7.0
    evidence = expert_map(values, marked=((3, 5),))
    assert drawn_cells(evidence) == {(1, 2): (1.0, True)}
    drawn = lay_out_expert_map(evidence)
    assert drawn.notes == ("Each cell shows the strongest of 2 by 2 layers and experts.",)
    assert drawn.rows == (ExpertRow(3, 5, "-7", True),)


def test_pages_hold_the_picture_and_the_words() -> None:
    """One drawing with title and description, one table, in HTML; one table in Markdown."""
    evidence = expert_map([[0.0, 3.0], [-9.0, 1.0]], marked=((1, 0),))
    page = PageReader(render_html(with_maps(evidence)))
    assert page.unbalanced == []
    (drawing,) = [svg for svg in page.named("svg") if svg.attributes.get("class") == "curve"]
    texts = {child.name: child.text for child in drawing.children}
    assert (texts["title"], texts["desc"]) == (
        "t", "2 layers by 2 experts. Strongest: layer 1, expert 0, -9. Marked: 1.",
    )  # fmt: skip
    summary = render_markdown(with_maps(evidence)).decode()
    assert "| layer | expert | value (u) | marked |" in summary
    assert "| 1 | 0 | -9 | yes |\n| 0 | 1 | 3 | no |\n| 1 | 1 | 1 | no |\n" in summary


def test_a_large_busy_map_fits() -> None:
    """Every neighbour differs: nothing can be drawn together."""
    busy = [[float((3 * row + 5 * at) % 17 - 8) for at in range(256)] for row in range(61)]
    text = render_html(with_maps(expert_map(busy)))
    assert len(text) < MAX_BYTES / 4
    assert b'<path class="cells' in text


@pytest.mark.parametrize(
    "change",
    [{"layers": (0,)}, {"experts": 3}, {"layers": (1, 1)}, {"marked": ((2, 0),)},
     {"marked": ((0, 2),)}, {"marked": ((0, -1),)}, {"values": ((1.0, 2.0), (1.0, float("inf")))}],
)  # fmt: skip
def test_a_map_with_holes_or_strangers_is_refused(change: dict[str, object]) -> None:
    """Layers and experts name every value, and what is marked is in the map."""
    whole = expert_map([[1.0, 2.0], [3.0, 4.0]]).model_dump()
    with pytest.raises(ValidationError):
        ExpertMapEvidence.model_validate(whole | change)
