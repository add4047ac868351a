"""Extraction with everything that should stand beside it, and what may be said of the share.

Extracted text may be common rather than memorised: so texts that were never trained on are asked
for, each continuation is read behind prefixes of other documents, and a model that did not see the
spans is asked for them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from auditor.findings import Verdict
from auditor.language.text_model import TextModel
from auditor.memorization.language.exposure import Exposure, alphabet_of, measure_exposure
from auditor.memorization.language.extraction import ExtractionOptions, measure_extraction
from auditor.memorization.language.extraction_curves import RatePoint, is_exact, rate_of
from auditor.memorization.language.extraction_record import Extraction
from auditor.memorization.language.guessing import Guess, measure_guessing
from auditor.memorization.language.training_spans import TrainingSpan

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class StudyOptions:
    """What is asked for.

    Attributes:
        asking: How spans are asked for.
        unrelated: Prefixes of other documents that the continuation of each extracted span is read
            behind; every span is read behind one. 0 for none at all.
        candidates: Random continuations that each span is ranked among; 0 for none.
    """

    asking: ExtractionOptions = field(default_factory=ExtractionOptions)
    unrelated: int = 16
    candidates: int = 0

    @property
    def strictly(self) -> ExtractionOptions:
        """The longest prefix alone, exact or not."""
        asking = self.asking
        return replace(asking, prefix_lengths=asking.prefix_lengths[-1:], compare=False, draws=0)


@dataclass(frozen=True, eq=False)
class ExtractionStudy:
    """What was found out; parts that were not asked for, or had no time, are empty.

    Attributes:
        found: Of the training spans.
        never: Of texts that were never trained on, at the longest prefix.
        once: Of every span, behind one unrelated prefix.
        guesses: Of each extracted span, behind many.
        reference: Of the training spans, by a model that did not see them.
        exposures: Of each span among random candidates.
        left_out: Parts that were asked for and had no time.
    """

    found: Extraction
    never: Extraction | None = None
    once: tuple[Guess, ...] = ()
    guesses: tuple[Guess, ...] = ()
    reference: Extraction | None = None
    exposures: tuple[Exposure, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def stopped(self) -> str:
        """How far it got if time was up before all was done; else nothing."""
        found = self.found
        if found.asked < found.planned:
            return f"time was up after {found.asked} of {found.planned} spans"
        if self.left_out:
            return f"time was up before {' and '.join(self.left_out)}"
        return ""

    @cached_property
    def exact(self) -> RatePoint:
        """Spans that are extracted at the longest prefix."""
        return rate_of(self.found.longest, is_exact)

    @cached_property
    def common(self) -> frozenset[int]:
        """Numbers of the extracted spans that need not be memorised.

        Those that the reference gives, too; without one, those that follow most unrelated prefixes.
        """
        exact = [at for at, each in enumerate(self.found.longest) if each.exact]
        if self.reference is not None:
            others = self.reference.longest
            return frozenset(at for at in exact if at < len(others) and others[at].exact)
        guesses = zip(exact, self.guesses, strict=False)
        return frozenset(at for at, guess in guesses if guess.guessed)

    @property
    def common_by(self) -> str:
        """How common ones were found, to follow their number."""
        if self.reference is not None:
            return "are given by the reference model, too"
        if self.guesses:
            return "follow most prefixes of other documents, too, as common strings do"
        return "are known to be common: neither a reference model nor other prefixes were tried"

    @cached_property
    def beyond_common(self) -> RatePoint:
        """Spans that are extracted and not known to be common."""
        longest = self.found.longest
        special = {id(each) for at, each in enumerate(longest) if at not in self.common}
        return rate_of(longest, lambda each: each.exact and id(each) in special)

    @cached_property
    def never_exact(self) -> RatePoint | None:
        """Texts never trained on that are given exactly."""
        return None if self.never is None else rate_of(self.never.longest, is_exact)


def study_extraction(
    model: TextModel,
    spans: Sequence[TrainingSpan],
    options: StudyOptions,
    *,
    never: Sequence[TrainingSpan] = (),
    reference: TextModel | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda share, text: None,
) -> ExtractionStudy:
    """Ask for the spans, then, as long as there is time, for what stands beside them.

    Args:
        model: The model.
        spans: Of its training text.
        options: What is asked for.
        never: Texts of the same shape that it was never trained on.
        reference: A model with the same tokenizer that did not see the spans.
        stop: Asked between slices and parts; the first slice of spans is always asked for.
        progress: Called with the share that is done and a text.

    Raises:
        NothingToAudit, ConfigurationError, UnsupportedModel: As `measure_extraction`.
    """

    def ask(
        of: TextModel,
        what: Sequence[TrainingSpan],
        how: ExtractionOptions,
        start: float,
        named: str,
    ) -> Extraction:
        return measure_extraction(
            of, what, how, stop=stop,
            progress=lambda done, total: progress(
                start + 0.1 * done / total, f"{done} of {total} {named}"
            ),
        )  # fmt: skip

    found = measure_extraction(
        model, spans, options.asking, stop=stop,
        progress=lambda done, total: progress(0.6 * done / total, f"{done} of {total} spans"),
    )  # fmt: skip
    study = ExtractionStudy(found)
    if study.stopped:
        return study
    if never:
        asked = ask(model, never, options.strictly, 0.6, "texts never trained on")
        study = replace(study, never=asked)
    left_out = [] if study.never is None else _missing(study.never, "texts never trained on")
    if options.unrelated and len({each.group for each in spans}) > 1:
        if stop():
            left_out.append("prefixes of other documents")
        else:
            once, many = _guesses(model, study, spans, options)
            study = replace(study, once=once, guesses=many)
    if reference is not None:
        asked = ask(reference, spans, options.strictly, 0.8, "spans of the reference")
        study = replace(study, reference=asked)
        left_out += _missing(asked, "the reference model")
    if options.candidates:
        if stop():
            left_out.append("random candidates")
        else:
            study = replace(study, exposures=tuple(measure_exposure(
                model, spans, prefix_length=options.asking.prefix_lengths[-1],
                alphabet=alphabet_of(spans), candidates=options.candidates,
                batch_size=options.asking.batch_size, seed=options.asking.seed,
            )))  # fmt: skip
    return replace(study, left_out=tuple(left_out))


def _missing(found: Extraction, what: str) -> list[str]:
    return [] if found.asked == found.planned else [f"the rest of {what}"]


def _guesses(
    model: TextModel, study: ExtractionStudy, spans: Sequence[TrainingSpan], options: StudyOptions
) -> tuple[tuple[Guess, ...], tuple[Guess, ...]]:
    """Every span behind one unrelated prefix, and the extracted ones behind many."""
    longest = study.found.longest
    own = [each for each in longest if each.exact]
    once, many = (
        tuple(measure_guessing(
            model, results, spans, count=count, batch_size=options.asking.batch_size,
            seed=options.asking.seed,
        ))
        for results, count in ((longest, 1), (own, options.unrelated))
    )  # fmt: skip
    return once, many


def judge_extraction(study: ExtractionStudy, most: float) -> tuple[Verdict, str]:
    """Whether at most a share of the spans is extracted, and the reason where that is unknown.

    By the whole 95 % interval. It is not violated by common strings: what is left without them has
    to exceed the limit, too, and the whole interval the share of texts that were never trained on.
    Where time was up before these were asked for it is unknown.

    Args:
        study: What was found out.
        most: The limit.
    """
    exact, beyond, never = study.exact, study.beyond_common, study.never_exact
    complete = study.found.asked == study.found.planned
    if complete and exact.interval.upper <= most:
        return Verdict.HOLDS, ""
    if study.stopped:
        return Verdict.UNKNOWN, study.stopped
    if exact.interval.lower <= most:
        return Verdict.UNKNOWN, f"the interval reaches over the limit: {exact.said} are given"
    if beyond.interval.lower <= most:
        return Verdict.UNKNOWN, (
            f"{exact.hits - beyond.hits} of the {exact.hits} spans that are given "
            f"{study.common_by}; the interval of the rest, {beyond.said}, reaches over the limit"
        )
    if never is not None and exact.interval.lower <= never.share:
        return Verdict.UNKNOWN, (
            f"texts that were never trained on are given as often: {never.said} against "
            f"{exact.said}"
        )
    return Verdict.VIOLATED, ""
