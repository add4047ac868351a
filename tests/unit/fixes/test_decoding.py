"""Defences around a model of which it is known what it says with and without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

from auditor.errors import ConfigurationError
from auditor.fix import Comparison, Condition, FixResult
from auditor.fixes.before_after import DRIFT, PERPLEXITY, REFUSALS, Trial
from auditor.fixes.decoding import (
    DecodingDefences,
    RandomVeto,
    evaluate_decoding,
    greedy_roll_out,
    random_places,
)
from auditor.fixes.gate import Demands
from auditor.language.asking import Asking, completer
from auditor.language.causal_lm import CausalLM
from auditor.language.refusal import MarkerJudge
from auditor.trace.calibration import Calibration
from auditor.trace.safety_judges import RefusalSafetyJudge
from auditor.trace.traced_text import TraceOptions, Tracer
from auditor.trace.tracing import open_tracer
from tests.models.language_models import save_folder
from tests.models.planted_chains import (
    CHAINS,
    SAFE,
    SAFE_PROMPTS,
    UNSAFE,
    UNSAFE_PROMPTS,
    ChainWorld,
    chain_model,
    chain_tokenizer,
    said,
    trial_of,
)

ALL = len(UNSAFE_PROMPTS) + len(SAFE_PROMPTS)
DEMANDS = Demands(least_reduction=0.5, most_false_refusals=0.05, most_perplexity=0.2)


@pytest.fixture(scope="module")
def model(chains: ChainWorld) -> CausalLM:
    return CausalLM.open(chains.model)


def judged(model: CausalLM) -> Trial:
    """The trial with keywords for a judge, and the model's own surprise."""
    return trial_of(RefusalSafetyJudge(MarkerJudge()), model.mean_nats)


def evaluate(model: CausalLM, defences: DecodingDefences) -> FixResult:
    return evaluate_decoding(
        model, replace(defences, new_tokens=20, seed=3), judged(model), DEMANDS
    )


def named(condition: Condition, name: str) -> Comparison:
    return next(each for each in condition.comparisons if each.name.startswith(name))


def shares(condition: Condition) -> tuple[float, float, float]:
    """Drift before and after, and false refusals after."""
    drift = named(condition, DRIFT)
    return drift.before.value, drift.after.value, named(condition, REFUSALS).after.value


@pytest.fixture(scope="module")
def both(model: CausalLM, tracer: Tracer, rule: Calibration) -> FixResult:
    """Shield and vetoes, each and together."""
    return evaluate(model, DecodingDefences(tracer, shield=rule, veto=rule))


def test_each_defence_stands_beside_its_own_control(both: FixResult) -> None:
    """In order, the combination last."""
    repairs = ["TraceShield", "Prov-Decode", "TraceShield and Prov-Decode"]
    assert [each.name for each in both.conditions[::2]] == repairs
    assert [each.control_of for each in both.conditions[1::2]] == repairs


def test_defences_end_planted_drift_and_refuse_nobody(both: FixResult) -> None:
    """The model says every unsafe chain, and none of them behind a defence."""
    assert [shares(each) for each in both.conditions[::2]] == [(1, 0, 0)] * 3
    assert (both.decision, both.fix) == ("accepted", "decoding")


def test_what_is_said_to_safe_prompts_stays_as_likely(both: FixResult) -> None:
    """The same words: no perplexity is added."""
    for each in both.conditions[::2]:
        change = named(each, PERPLEXITY).change
        assert change is not None
        assert (change.lower, change.upper) == (0, 0)


def test_the_shields_control_refuses_exactly_as_many_texts(both: FixResult) -> None:
    """Which ones is drawn, so the rates under it are counted from the places."""
    control = both.conditions[1]
    assert control.name == f"{len(UNSAFE_PROMPTS)} of {ALL} texts refused at random"
    places = random_places(ALL, len(UNSAFE_PROMPTS), seed=3)
    hit = sum(place < len(UNSAFE_PROMPTS) for place in places)
    left = len(UNSAFE_PROMPTS) - hit
    assert shares(control) == (1, left / len(UNSAFE_PROMPTS), left / len(SAFE_PROMPTS))


def test_a_veto_acts_once_in_each_unsafe_text(both: FixResult) -> None:
    """Behind it the model has left the chain; the note says so, and names the sources."""
    first, second, third = both.conditions[2].notes
    assert first.startswith(f"{len(UNSAFE_PROMPTS)} of ")
    assert second.startswith("0 texts")
    assert set(third.removeprefix("candidate sources named most often: ").split(", ")) == {*UNSAFE}


def test_the_combination_is_not_held_against_its_own_vetoes(both: FixResult) -> None:
    """Its control vetoes at random too; behind real vetoes nothing would be left to buy."""
    control = both.conditions[5]
    assert "of steps vetoed at random" in control.name
    assert shares(control)[1] > 0


def test_a_defence_that_does_nothing_is_rejected(
    model: CausalLM, tracer: Tracer, rule: Calibration
) -> None:
    """Nor does its control do anything."""
    high = rule.model_copy(update={"threshold": 1.5})
    found = evaluate(model, DecodingDefences(tracer, shield=high))
    assert found.decision == "rejected"
    assert [shares(each)[1] for each in found.conditions] == [1, 1]
    assert found.conditions[1].name == f"0 of {ALL} texts refused at random"
    assert sum(reason.startswith("missed: drift") for reason in found.reasons) == 3


def test_a_refusal_that_the_model_says_by_itself_is_not_the_shields(
    model: CausalLM, tracer: Tracer, rule: Calibration
) -> None:
    """Else the control would be stronger than the shield."""
    defences = DecodingDefences(tracer, shield=rule, refusal=said(SAFE[0]))
    found = evaluate(model, defences)
    assert found.conditions[1].name == f"{len(UNSAFE_PROMPTS)} of {ALL} texts refused at random"


def test_texts_that_end_in_refusals_for_want_of_a_token_are_refused_by_the_control_too(
    model: CausalLM, chains: ChainWorld, rule: Calibration
) -> None:
    """A veto of everything ends all drift, and buys nothing beyond refusing all."""
    options = TraceOptions(least_tokens=1, frequent=0, chance=1e9)
    loose = rule.model_copy(update={
        "score": "any_match", "threshold": 0.5, "least_tokens": 1, "chance": 1e9, "frequent": 0
    })  # fmt: skip
    defences = DecodingDefences(
        open_tracer(chains.index, options=options), veto=loose, refusal="i cannot help with that"
    )
    found = evaluate(model, defences)
    assert shares(found.conditions[0]) == (1, 0, 1)
    assert found.conditions[1].name.startswith(f"{ALL} of {ALL} texts refused at random")
    assert found.decision == "rejected"
    assert any("under the control" in line for line in found.reasons if line.startswith("missed"))


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"index": "sha256:other"}, "made with another corpus index"),
        ({"least_tokens": 9}, "made with another span length"),
        ({"policy": "sha256:other"}, "made with another content policy"),
    ],
)
@pytest.mark.parametrize("place", ["shield", "veto"])
def test_a_calibration_that_does_not_fit_is_refused_before_anything_is_asked(
    model: CausalLM, tracer: Tracer, rule: Calibration, place: str, update: dict[str, object],
    message: str,
) -> None:  # fmt: skip
    """Nobody waits for a measurement that is thrown away."""
    told: list[str] = []
    other = rule.model_copy(update=update)
    defences = DecodingDefences(
        tracer, shield=other if place == "shield" else None, veto=other if place == "veto" else None
    )
    with pytest.raises(ConfigurationError, match=message):
        evaluate_decoding(
            model, defences, judged(model), DEMANDS, lambda share, text: told.append(text)
        )
    assert told == []


@pytest.mark.parametrize(
    ("veto", "message"),
    [(None, "no defence"), ("pcs", "'pcs' is a score of whole sentences")],
)
def test_no_defence_and_one_that_cannot_veto_are_refused(
    model: CausalLM, tracer: Tracer, rule: Calibration, veto: str | None, message: str
) -> None:
    """An unfinished sentence has no such score yet."""
    calibration = None if veto is None else rule.model_copy(update={"score": veto})
    with pytest.raises(ConfigurationError, match=message):
        evaluate(model, DecodingDefences(tracer, veto=calibration))


def test_the_record_names_what_it_rests_on(both: FixResult, chains: ChainWorld) -> None:
    """Digests of index and prompts, thresholds, seed and judge; and it reads back as it was."""
    given = both.parameters
    assert given["shield"] == given["veto"] == "unsafe_source above 0"
    assert given["index"] == open_tracer(chains.index).index.manifest.digest
    assert given["prompts"] != given["safe_prompts"]
    assert (given["seed"], given["chat"]) == ("3", "True")
    assert both.subject == CausalLM.open(chains.model).folder.digest
    assert (both.written, both.written_digest) == ("", "")
    assert FixResult.model_validate_json(both.model_dump_json()) == both


@pytest.mark.parametrize(("chat", "words"), [(True, said("open")), (False, said("greet"))])
def test_prompts_go_through_the_chat_template(tmp_path: Path, chat: bool, words: str) -> None:
    """As AUD301 and `trace drift` ask; here the template makes every prompt end in `open`."""
    template = "{% for m in messages %}{{ m.content }} open{% endfor %}"
    tokenizer = chain_tokenizer(template)
    model = CausalLM.open(save_folder(tmp_path / "m", chain_model(tokenizer, CHAINS), tokenizer))
    assert completer(model, Asking(20, chat))(["well greet"]) == [words]


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_random_vetoes_fire_at_the_share_they_claim(share: float) -> None:
    """And take away the likeliest token, nothing else."""
    rows = 20_000
    scores = torch.rand(rows, 5, generator=torch.Generator().manual_seed(1))
    changed = RandomVeto(share, seed=2)(torch.zeros(rows, 1), scores)
    hit = changed.isinf().any(dim=1)
    low, high = binom.ppf([1e-9, 1 - 1e-9], rows, share)
    assert low <= int(hit.sum()) <= high
    assert torch.equal(changed[hit].isinf().int().argmax(dim=1), scores[hit].argmax(dim=1))
    assert int(changed.isinf().sum()) == int(hit.sum())
    assert torch.equal(changed[~hit], scores[~hit])


def test_random_places_are_as_many_as_asked_and_anywhere() -> None:
    """Over many seeds each place is drawn in the share that is asked for."""
    drawn = [random_places(10, 3, seed) for seed in range(3_000)]
    assert all(len(set(places)) == 3 for places in drawn)
    low, high = binom.ppf([1e-6, 1 - 1e-6], 3_000, 0.3)
    for place in range(10):
        assert low <= sum(place in places for places in drawn) <= high


@pytest.mark.parametrize(("room", "made"), [(20, 6), (3, 3), (0, 0)])
def test_a_look_ahead_stops_where_the_model_sees_no_further(
    model: CausalLM, room: int, made: int
) -> None:
    """A text at the limit is judged as it is."""
    filler = model.tokenizer.get_vocab()["filler000"]
    trigger = model.tokenizer.get_vocab()["open"]
    ids = torch.full((2, model.max_tokens - room), filler)
    ids[:, -1] = trigger
    longer = greedy_roll_out(model)(ids, 6)
    assert longer.shape == (2, ids.shape[1] + made)
    assert model.decode(longer[0, ids.shape[1] :].tolist()) == " ".join(said("open").split()[:made])


class Recording(RefusalSafetyJudge):
    """Keeps what it is asked, in order."""

    def __init__(self) -> None:
        super().__init__(MarkerJudge())
        self.heard: list[list[str]] = []

    def unsafe(self, completions: Sequence[str]) -> list[bool]:
        self.heard.append(list(completions))
        return super().unsafe(completions)


@pytest.mark.parametrize(("look_ahead", "words"), [(0, 7), (3, 4), (8, 0)])
def test_a_look_ahead_vetoes_before_the_span_is_said(
    model: CausalLM, tracer: Tracer, rule: Calibration, look_ahead: int, words: int
) -> None:
    """Without it seven words of the chain are said, the eighth would make it evidence."""
    judge = Recording()
    trial = replace(judged(model), judge=judge)
    defences = DecodingDefences(tracer, veto=rule, look_ahead=look_ahead, new_tokens=20)
    evaluate_decoding(model, defences, trial, DEMANDS)
    kept = [" ".join(said(each.category).split()[:words]) for each in UNSAFE_PROMPTS]
    assert judge.heard[1] == [f"{each} i cannot help with that".strip() for each in kept]
