"""The cache gives back what was kept, whole, and nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.audit.answer_cache import REUSED_FACT, AnswerCache
from auditor.audit.ledger import EvidenceFolder
from auditor.errors import AuditorError, ConfigurationError
from auditor.findings import BlobEvidence, CheckResult, Verdict
from tests.models.written_run import made_result

ORIGIN = "the run of 'p' in old"


@pytest.fixture
def old(tmp_path: Path) -> EvidenceFolder:
    """The evidence of the run that computes."""
    return EvidenceFolder(tmp_path / "old" / "evidence")


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    """A cache that is not there yet."""
    return AnswerCache(tmp_path / "cache")


def with_blob(result: CheckResult, evidence: EvidenceFolder, content: bytes) -> CheckResult:
    """The result with a file of evidence."""
    kept = BlobEvidence(title="file", blob=evidence.put(content, "text/plain", "a.txt"))
    return result.model_copy(update={"answer": result.answer.model_copy(
        update={"evidence": (kept,)}
    )})  # fmt: skip


def test_an_answer_comes_back_with_its_evidence_and_its_origin(
    cache: AnswerCache, old: EvidenceFolder, tmp_path: Path
) -> None:
    """As it was, but for the fact that says where it is from."""
    result = with_blob(made_result("AUD201", Verdict.VIOLATED), old, b"witness")
    cache.keep(result, old, ORIGIN)
    new = EvidenceFolder(tmp_path / "new" / "evidence")
    found = cache.take(result.key, new)
    assert found is not None
    assert found.facts == {**result.answer.facts, REUSED_FACT: ORIGIN}
    assert found.model_copy(update={"facts": result.answer.facts}) == result.answer
    (kept,) = found.evidence
    assert isinstance(kept, BlobEvidence)
    assert new.get(kept.blob, 100) == b"witness"
    assert cache.take("another key", new) is None


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.ERROR])
def test_what_is_open_is_asked_again(
    verdict: Verdict, cache: AnswerCache, old: EvidenceFolder
) -> None:
    """It may have hung on the clock."""
    result = made_result("AUD201", verdict)
    cache.keep(result, old, ORIGIN)
    assert not cache.holds(result.key)
    assert list(cache.entries()) == []


def test_a_copy_is_not_kept_again(cache: AnswerCache, old: EvidenceFolder) -> None:
    """So the first origin stays."""
    result = made_result("AUD201", Verdict.HOLDS)
    cache.keep(result, old, ORIGIN)
    copy = cache.take(result.key, old)
    cache.keep(result.model_copy(update={"answer": copy}), old, "the run of 'p' in new")
    again = cache.take(result.key, old)
    assert again is not None
    assert again.facts[REUSED_FACT] == ORIGIN


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("said", "lied"),
        lambda text: text[:-9],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"digest":"x"}',
    ],
)
def test_a_damaged_entry_counts_as_none(
    damage: object, cache: AnswerCache, old: EvidenceFolder
) -> None:
    """And is found by its owner, and written anew."""
    assert callable(damage)
    result = made_result("AUD201", Verdict.HOLDS)
    cache.keep(result, old, ORIGIN)
    (entry,) = cache.entries()
    entry.path.write_text(damage(entry.path.read_text()))
    assert cache.take(result.key, old) is None
    (damaged,) = cache.entries()
    assert damaged.entry is None
    assert cache.prune() == 1
    cache.keep(result, old, ORIGIN)
    assert cache.take(result.key, old) is not None


def test_an_entry_of_another_key_is_not_taken(cache: AnswerCache, old: EvidenceFolder) -> None:
    """Moved by hand, it fits its digest, and not its name."""
    one, two = made_result("AUD201", Verdict.HOLDS), made_result("AUD202", Verdict.HOLDS)
    for each in (one, two):
        cache.keep(each, old, ORIGIN)
    first, second = cache.entries()
    first.path.replace(second.path)
    assert [cache.take(each.key, old) for each in (one, two)] == [None, None]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_evidence_that_is_missing_or_altered_makes_it_none(
    change: object, cache: AnswerCache, old: EvidenceFolder, tmp_path: Path
) -> None:
    """An answer never comes without what it speaks of."""
    assert callable(change)
    result = with_blob(made_result("AUD201", Verdict.VIOLATED), old, b"witness")
    cache.keep(result, old, ORIGIN)
    (kept,) = (cache.folder / "evidence").glob("??/*")
    change(kept)
    assert cache.take(result.key, EvidenceFolder(tmp_path / "new")) is None


def test_an_answer_whose_evidence_is_gone_is_not_kept(
    cache: AnswerCache, old: EvidenceFolder
) -> None:
    """With an error that the run tells."""
    result = with_blob(made_result("AUD201", Verdict.VIOLATED), old, b"witness")
    (kept,) = old.folder.glob("??/*")
    kept.unlink()
    with pytest.raises(AuditorError, match="the file is missing"):
        cache.keep(result, old, ORIGIN)
    assert not cache.holds(result.key)


def test_pruning_removes_the_longest_unused_and_their_evidence(
    cache: AnswerCache, old: EvidenceFolder
) -> None:
    """By time, and by size."""
    now = datetime.now(UTC)
    codes = ["AUD201", "AUD202", "AUD203"]
    for code in codes:
        result = with_blob(made_result(code, Verdict.VIOLATED), old, code.encode())
        cache.keep(result, old, ORIGIN)
    for each in cache.entries():
        assert each.entry is not None
        then = (now - timedelta(days=codes.index(each.entry.code))).timestamp()
        os.utime(each.path, (then, then))
    assert cache.prune(before=now - timedelta(days=1, hours=1)) == 1
    left = {each.entry.code: each for each in cache.entries() if each.entry}
    assert set(left) == {"AUD201", "AUD202"}
    contents = {path.read_text() for path in (cache.folder / "evidence").glob("??/*")}
    assert contents == {"AUD201", "AUD202"}
    assert cache.prune(most_bytes=left["AUD201"].size) == 1
    assert [each.entry.code for each in cache.entries() if each.entry] == ["AUD201"]


def test_another_folder_is_never_written_to_or_cleared(
    cache: AnswerCache, old: EvidenceFolder
) -> None:
    """Whatever somebody names."""
    (cache.folder / "answers").mkdir(parents=True)
    (cache.folder / "answers" / "mine.txt").write_text("keep")
    for act in (cache.clear, cache.prune, cache.is_there,
                lambda: cache.keep(made_result("AUD201", Verdict.HOLDS), old, ORIGIN)):  # fmt: skip
        with pytest.raises(ConfigurationError, match="is no cache of auditor"):
            act()
    assert (cache.folder / "answers" / "mine.txt").read_text() == "keep"


def test_clearing_removes_everything(cache: AnswerCache, old: EvidenceFolder) -> None:
    """And says how much it was; the folder stays a cache."""
    cache.keep(made_result("AUD201", Verdict.HOLDS), old, ORIGIN)
    assert cache.clear() == 1
    assert list(cache.entries()) == []
    assert cache.is_there()
    assert cache.clear() == 0
