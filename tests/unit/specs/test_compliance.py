"""Mapping files are data with an origin: sources, a recent review, checks that exist.

A review is held against the day the sources were last changed, not against today: an old
release keeps passing its own tests, and no change lands on a mapping that nobody looked at for
a year. `auditor list frameworks` shows the age today, a dossier warns by the day of its run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from auditor.registry import BUILT_IN_CHECKS
from auditor_cli.frameworks import all_mappings, find_mappings
from auditor_cli.plans import compliance_mappings
from auditor_reports.dossier.build import review_is_old
from auditor_reports.dossier.mapping import FrameworkMapping
from tests.unit.reports.test_wording import FORBIDDEN

ROOT = Path(__file__).parents[3]
SOURCES = "".join(path.read_text("utf-8") for path in sorted((ROOT / "auditor").rglob("*.py")))
# AUD103 names its metrics `runtime:measure`.
DEVIATIONS = ("absolute", "same_argmax")
CHECKS = {check.code: check for check in BUILT_IN_CHECKS}
MAPPINGS = all_mappings()
each_mapping = pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: mapping.id)


def day_of_the_sources(mappings: tuple[FrameworkMapping, ...]) -> date:
    """The day of the build if it is given, else of the last commit; never before a review."""
    days = [mapping.last_reviewed for mapping in mappings]
    epoch, git = os.environ.get("SOURCE_DATE_EPOCH"), shutil.which("git")
    if epoch:
        days.append(datetime.fromtimestamp(int(epoch), UTC).date())
    elif git and (ROOT / ".git").exists():
        command = [git, "-C", str(ROOT), "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            days.append(datetime.fromtimestamp(int(done.stdout), UTC).date())
    return max(days)


def test_the_frameworks_ship() -> None:
    """Files are named after their framework."""
    names = ["eu-ai-act", "iso-24029-2", "iso-42001", "nist-ai-rmf", "sr-26-2"]
    assert [mapping.id for mapping in MAPPINGS] == names == list(compliance_mappings())


@each_mapping
def test_a_framework_is_found_by_name_and_alias(mapping: FrameworkMapping) -> None:
    """Asking twice gives it once."""
    assert find_mappings([mapping.id, *mapping.aliases, mapping.id]) == (mapping,)


@each_mapping
def test_every_row_has_a_source(mapping: FrameworkMapping) -> None:
    """A row that stands nowhere in the framework is an invention."""
    assert [row.id for row in mapping.rows() if not row.source.strip()] == []
    assert all(re.search(r"\d", row.source) for row in mapping.rows())


@each_mapping
def test_the_review_is_younger_than_twelve_months(mapping: FrameworkMapping) -> None:
    """Compare the mapping with its sources again, then set `last_reviewed`."""
    assert not review_is_old(mapping, day_of_the_sources(MAPPINGS))


def test_the_day_of_the_build_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a build years later meets an old review."""
    later = datetime(MAPPINGS[0].last_reviewed.year + 2, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(later.timestamp())))
    assert review_is_old(MAPPINGS[0], day_of_the_sources(MAPPINGS))


@each_mapping
def test_every_check_that_is_named_exists(mapping: FrameworkMapping) -> None:
    """A code that is never reused may still be misspelt."""
    named = {code for row in mapping.rows() for code in row.codes}
    named |= {reading.check for reading in mapping.formal_properties}
    assert named <= CHECKS.keys()


def test_every_built_in_check_is_mapped_somewhere() -> None:
    """A new check is evidence for something, or a mapping says nothing of it."""
    named = {code for mapping in MAPPINGS for row in mapping.rows() for code in row.codes}
    assert CHECKS.keys() - named == set()


def named_texts() -> Iterator[tuple[str, str]]:
    """Facts and metrics that mappings name."""
    for mapping in MAPPINGS:
        for row in mapping.rows():
            for slot in row.evidence:
                yield from (("fact", name) for name in (*slot.facts, *slot.unless))
                yield from (("metric", name) for name in slot.metrics)
        for reading in mapping.formal_properties:
            for field in reading.model_dump(include=set(FIELDS)).values():
                yield from ((kind, name) for kind, _, name in (r.partition(":") for r in field))


FIELDS = ("domain", "criterion", "architecture", "data_type", "complete", "deterministic",
          "arithmetic", "method", "stage")  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    sorted({pair for pair in named_texts() if pair[0] in ("fact", "metric", "model")}),
)
def test_every_fact_and_metric_that_is_named_is_one_that_checks_record(
    kind: str, name: str
) -> None:
    """A renamed fact would silently become `not recorded`."""
    stem = re.escape(name.strip("*"))
    # A metric may be named by a pattern, whose end is made up when the check runs.
    literal = rf'"[^"\n]*{stem}[^"\n]*"' if "*" in name else rf'"{stem}"'
    assert re.search(literal, SOURCES) or stem.lstrip(":") in DEVIATIONS


@each_mapping
def test_every_parameter_that_is_named_exists(mapping: FrameworkMapping) -> None:
    """Readings of properties quote parameters by their names."""
    for reading in mapping.formal_properties:
        known = CHECKS[reading.check].params.model_fields
        for field in FIELDS:
            for kind, _, name in (r.partition(":") for r in getattr(reading, field)):
                if kind in ("parameter", "data"):
                    assert name in known


def test_the_five_attack_classes_of_article_15_are_there() -> None:
    """The matrix names the classes that the article names, and no other."""
    (mapping,) = find_mappings(["eu-ai-act"])
    (matrix,) = [section for section in mapping.sections if section.attack_classes]
    assert [row.title for row in matrix.rows] == [
        "Data poisoning", "Model poisoning", "Adversarial examples and model evasion",
        "Confidentiality attacks", "Model flaws",
    ]  # fmt: skip


@each_mapping
def test_sources_say_whether_they_were_read(mapping: FrameworkMapping) -> None:
    """No mapping claims to come from an official text that nobody has read."""
    assert {source.read for source in mapping.sources} == {"from secondary sources"}


@each_mapping
def test_no_row_claims_conformity(mapping: FrameworkMapping) -> None:
    """What reports may not say, data may not make them say."""
    # Names of metrics are no words: `certified_share` is the defined term.
    text = mapping.model_dump_json().replace("certified_share", "certified share")
    assert FORBIDDEN.findall(text) == []


def test_no_action_of_the_generative_profile_is_invented() -> None:
    """Ids such as MS-2.7-001 must be copied from the official text, which was not read."""
    (mapping,) = find_mappings(["nist-ai-rmf"])
    assert not re.search(r"\b[A-Z]{2}-\d\.\d+-\d{3}\b", mapping.model_dump_json())
    assert any("left out" in note for note in mapping.notes)
