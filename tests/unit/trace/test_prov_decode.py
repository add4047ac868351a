"""Prov-Decode with a tiny model: no vetoed span is ever said, whatever the search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.trace.matches import Span, word_ends, word_starts
from auditor.trace.prov_decode import ProvDecode
from auditor.trace.shield import suspicion
from auditor.trace.tokens import tokens_of
from auditor.trace.traced_text import TraceOptions, Tracer
from tests.models.language_models import (
    VOCABULARY,
    WORDS,
    random_model,
    save_folder,
    word_tokenizer,
)
from tests.models.mill_corpus import guard_conflict
from tests.models.small_index import calibration_for, index_of

NEW = 14
ALL_COUNTS = TraceOptions(least_tokens=4, frequent=0, chance=1e9)
PROMPTS = ("the cat sees", "a red bird finds", "who keeps", "the old dog likes the")
REFUSAL = "what what what"
TOKENIZER = word_tokenizer()
MODEL = random_model().eval()


def said(prompts: Sequence[str], processors: Sequence[Any] = (), **options: Any) -> list[str]:
    """Prompts of one length with what the model says behind them."""
    ids = TOKENIZER(list(prompts), return_tensors="pt")["input_ids"]
    settings = {"max_new_tokens": NEW, "do_sample": False, **options}
    with torch.inference_mode():
        found = MODEL.generate(
            ids, attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList(processors), **settings,
        )  # fmt: skip
    return [str(TOKENIZER.decode(row, skip_special_tokens=True)) for row in found]


@pytest.fixture(scope="module")
def documents() -> list[tuple[str, str, str]]:
    """What the model says by itself: greedily, by beams and by chance; and something else."""
    texts = [said([prompt])[0] for prompt in PROMPTS]
    texts += said([PROMPTS[0]], num_beams=3, num_return_sequences=3)
    torch.manual_seed(0)
    texts += said([PROMPTS[0]], do_sample=True, num_return_sequences=20)
    found = [(f"said/{n}", "unsafe", text) for n, text in enumerate(texts)]
    return [*found, ("other", "benign", " ".join(reversed(WORDS)))]


@pytest.fixture(scope="module")
def echo(documents: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    """A tracer by which every match of at least four words counts."""
    return Tracer(index_of(tmp_path_factory.mktemp("echo"), documents), None, ALL_COUNTS)


def veto_of(
    tracer: Tracer, score: str = "length", threshold: float = 5, **options: Any
) -> ProvDecode:
    """A processor with a threshold by hand."""
    rule = calibration_for(tracer, score, threshold)
    return ProvDecode(tracer, rule, TOKENIZER, **{"refusal": REFUSAL, **options})


def flagged(tracer: Tracer, text: str, prompt: str, threshold: float) -> list[bytes]:
    """Spans above the threshold that end behind the prompt."""
    return [
        span.text for span in tracer.trace(text.encode()).evidence
        if span.scores["length"] > threshold and span.stop > len(prompt)
    ]  # fmt: skip


def test_the_model_by_itself_says_what_is_vetoed(echo: Tracer) -> None:
    """Otherwise the tests below would show nothing."""
    assert all(flagged(echo, text, prompt, 5) for prompt in PROMPTS
               for text in said([prompt]))  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("threshold", [3.5, 5, 8])
def test_greedy_search_says_no_vetoed_span(echo: Tracer, prompt: str, threshold: float) -> None:
    """And says something else instead, not nothing."""
    veto = veto_of(echo, threshold=threshold)
    (text,) = said([prompt], [veto])
    assert not veto.counts.dead_ends
    assert flagged(echo, text, prompt, threshold) == []
    assert len(text.split()) > len(prompt.split()) + threshold - 4
    assert veto.counts.altered > 0


@given(st.integers(0, 10_000), st.floats(0.5, 3.0))
@settings(deadline=None, max_examples=12)
def test_sampling_says_no_vetoed_span(echo: Tracer, seed: int, temperature: float) -> None:
    """Nor one that ends in a token that was not among the judged ones."""
    torch.manual_seed(seed)
    veto = veto_of(echo, candidates=6)
    texts = said(
        [PROMPTS[0]], [veto], do_sample=True, temperature=temperature, num_return_sequences=6,
        top_k=0,
    )  # fmt: skip
    for text in texts:
        assert veto.counts.dead_ends or flagged(echo, text, PROMPTS[0], 5) == []


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_beam_search_says_no_vetoed_span(echo: Tracer, prompt: str, beams: int) -> None:
    """Though beams change places and share their beginnings."""
    (text,) = said([prompt], [veto_of(echo)], num_beams=beams)
    assert flagged(echo, text, prompt, 5) == []


class Watched:
    """A processor that compares every row with what a fresh one makes of it alone.

    Rows that have ended are left alone, which a fresh one cannot know.
    """

    def __init__(self, tracer: Tracer, **options: Any) -> None:
        self.tracer, self.options = tracer, options
        self.veto = veto_of(tracer, **options)
        self.rows: list[tuple[int, ...]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """As the processor's own."""
        found = self.veto(input_ids, scores)
        for row in range(len(input_ids)):
            if TOKENIZER.eos_token_id in input_ids[row]:
                assert torch.equal(found[row], scores[row])
                continue
            fresh = veto_of(self.tracer, **self.options)
            alone = fresh(input_ids[row : row + 1], scores[row : row + 1])
            assert torch.equal(found[row], alone[0])
        self.rows += [tuple(row.tolist()) for row in input_ids]
        return found


@pytest.mark.parametrize("mode", ["hard", "soft"])
@pytest.mark.parametrize(
    "options", [{"num_beams": 4}, {"do_sample": True, "num_return_sequences": 4}, {}]
)
def test_what_is_known_of_one_row_is_not_another_rows(
    echo: Tracer, mode: str, options: dict[str, Any]
) -> None:
    """Row by row and step by step the same as without any memory."""
    torch.manual_seed(1)
    watched = Watched(echo, mode=mode, threshold=7)
    said([PROMPTS[0], PROMPTS[0]], [watched], **options)
    assert len(watched.rows) > NEW


def test_beams_do_change_places(echo: Tracer) -> None:
    """In the search above a row's beginning is not always the row before it."""
    watched = Watched(echo, mode="soft", threshold=7)
    said([PROMPTS[0]], [watched], num_beams=4)
    steps = [watched.rows[at : at + 4] for at in range(0, len(watched.rows), 4)]
    assert any(
        row[:-1] != before for rows, others in itertools.pairwise(steps)
        for before, row in zip(rows, others, strict=True)
    )  # fmt: skip


def test_a_batch_is_vetoed_as_its_prompts_alone(echo: Tracer) -> None:
    """Through `CausalLM`, which the fixes use, too."""
    prompts = [prompt for prompt in PROMPTS if len(prompt.split()) == 4] + ["a red bird likes"]
    together = said(prompts, [veto_of(echo)])
    assert together == [said([prompt], [veto_of(echo)])[0] for prompt in prompts]


def test_the_causal_model_takes_the_processor(echo: Tracer, tmp_path: Path) -> None:
    """Greedily it says the same as transformers' own search."""
    model = CausalLM.open(save_folder(tmp_path / "m", MODEL, TOKENIZER))
    for prompt in PROMPTS:
        vetoes: list[Any] = [veto_of(echo)]
        (found,) = model.generate([prompt], max_new_tokens=NEW, processors=vetoes)
        assert said([prompt], [veto_of(echo)]) == [f"{prompt} {found.text}".strip()]


def worst(tracer: Tracer, before: str, after: str, texts: Sequence[str], score: str) -> float:
    """Suspicion of the worst span that ends in what `after` adds, by plain string search."""
    whole, known = after.encode(), len(before.encode().rstrip())
    array = np.frombuffer(whole, dtype=np.uint8)
    found = [float("-inf")]
    for end in {*word_ends(array).tolist(), len(whole.rstrip())}:
        start = next(
            (at for at in word_starts(array).tolist()
             if at < end and any(whole[at:end].decode() in text for text in texts)), end,
        )  # fmt: skip
        inside = whole[start:end]
        if end > known and len(tokens_of(inside)) >= tracer.options.least_tokens:
            (span,) = tracer.score_spans(inside, [Span(0, len(inside), 1)], own=False).spans
            if span.gate:
                found.append(suspicion(span, score))
    return max(found)


RULES = st.sampled_from([("length", 4.5), ("bci", 12.0), ("any_match", 0.5)])


@given(st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=12), st.integers(0, 30),
       st.floats(0.1, 20), RULES)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_soft_takes_strength_times_the_excess(
    echo: Tracer, documents: list[tuple[str, str, str]], words: list[str], said_words: int,
    strength: float, rule: tuple[str, float],
) -> None:  # fmt: skip
    """From each candidate by string search over the documents, from all other tokens nothing."""
    prompt = " ".join([*documents[0][2].split()[: said_words % 12], *words[: said_words % 3]])
    score, threshold = rule
    ids = torch.tensor([TOKENIZER.encode(prompt or "the")])
    before = str(TOKENIZER.decode(ids[0], skip_special_tokens=True))
    logits = torch.randn(1, len(VOCABULARY), generator=torch.Generator().manual_seed(said_words))
    veto = veto_of(echo, score, threshold, mode="soft", strength=strength, candidates=10)
    found = veto(ids, logits)
    texts = [each[2] for each in documents]
    expected = logits.clone()
    for token in torch.topk(logits[0], 10).indices.tolist():
        after = str(TOKENIZER.decode([*ids[0].tolist(), token], skip_special_tokens=True))
        excess = worst(echo, before, after, texts, score) - threshold
        expected[0, token] -= float(np.float32(strength * max(0.0, excess)))
    assert torch.allclose(found, expected, atol=1e-4, rtol=0)


def spoken(words: str) -> Tensor:
    """Ids of a text, [1, tokens]."""
    return torch.tensor([TOKENIZER.encode(words)])


def test_hard_leaves_the_judged_candidates_that_are_not_vetoed(echo: Tracer) -> None:
    """All else is impossible, and what is left is as likely as it was."""
    text = said([PROMPTS[0]])[0].split()
    ids = spoken(" ".join(text[:6]))
    logits = torch.zeros(1, len(VOCABULARY))
    logits[0, VOCABULARY.index(text[6])] = 9.0
    logits[0, [VOCABULARY.index(word) for word in ("and", "or", "not")]] = torch.tensor(
        [5.0, 4.0, 3.0]
    )
    found = veto_of(echo, candidates=4)(ids, logits)[0]
    left = {VOCABULARY[at]: float(found[at]) for at in torch.isfinite(found).nonzero().flatten()}
    assert text[6] not in left
    assert set(left.items()) <= {("and", 5.0), ("or", 4.0), ("not", 3.0)}
    assert left


def test_logits_that_are_given_are_not_changed(echo: Tracer) -> None:
    """The search may need them."""
    ids, logits = spoken(said([PROMPTS[0]])[0]), torch.randn(1, len(VOCABULARY))
    before = logits.clone()
    veto_of(echo)(ids, logits)
    assert torch.equal(logits, before)


def test_a_dead_end_ends_with_the_refusal_and_is_counted(echo: Tracer) -> None:
    """With one candidate every veto is one; rows beside it go on."""
    veto = veto_of(echo, candidates=1)
    (text,) = said([PROMPTS[0]], [veto])
    assert text.endswith(REFUSAL)
    assert text.split()[-4] != "what"
    assert flagged(echo, text.removesuffix(REFUSAL), PROMPTS[0], 5) == []
    assert veto.counts.dead_ends == 1
    veto = veto_of(echo, candidates=1)
    both = said([PROMPTS[1], "who who not not"], [veto])
    assert both[0].endswith(REFUSAL)
    assert both[1] == said(["who who not not"], [veto_of(echo, candidates=1)])[0]


def test_a_dead_end_under_sampling_and_beams_ends_the_same(echo: Tracer) -> None:
    """No row falls back to what was vetoed."""
    for options in ({"do_sample": True, "num_return_sequences": 5}, {"num_beams": 3}):
        torch.manual_seed(2)
        veto = veto_of(echo, threshold=4.5, candidates=1)
        for text in said([PROMPTS[0]], [veto], **options):
            assert flagged(echo, text.removesuffix(REFUSAL).strip(), PROMPTS[0], 4.5) == []
        assert veto.counts.dead_ends >= 1


def test_a_refusal_once_begun_is_said_to_its_end(echo: Tracer) -> None:
    """Whatever the model would rather say, then the sign of the end."""
    veto = veto_of(echo, candidates=1)
    ids = spoken(" ".join(said([PROMPTS[0]])[0].split()[:6]))
    for expected in (*REFUSAL.split(), "</s>", "</s>"):
        logits = torch.randn(1, len(VOCABULARY))
        logits[0, VOCABULARY.index("house" if "what" in expected else "cat")] = 50.0
        if expected == "what" and ids.shape[1] == 6:
            logits[0, VOCABULARY.index(said([PROMPTS[0]])[0].split()[6])] = 90.0
        found = veto(ids, logits)
        if ids[0, -1] == TOKENIZER.eos_token_id:
            assert torch.equal(found, logits)
            break
        assert VOCABULARY[int(found[0].argmax())] == expected
        assert int(torch.isfinite(found[0]).sum()) == 1
        ids = torch.cat([ids, found.argmax(-1)[:, None]], dim=1)


def greedy(rows: Tensor, tokens: int) -> Tensor:
    """Goes on greedily by the model."""
    with torch.inference_mode():
        for _ in range(tokens):
            last = MODEL(input_ids=rows).logits[:, -1]
            rows = torch.cat([rows, last.argmax(-1)[:, None]], dim=1)
    return rows


def longest(tracer: Tracer, text: str) -> float:
    """Tokens of the longest span."""
    return max((span.scores["length"] for span in tracer.trace(text.encode()).evidence), default=0)


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[1], PROMPTS[3]])
def test_looking_ahead_vetoes_earlier(echo: Tracer, prompt: str) -> None:
    """By as many tokens as it looks ahead, where the model says what the index holds."""
    text = said([prompt])[0].split()
    begin = len(prompt.split())
    first = {}
    for ahead in (0, 2):
        veto = veto_of(echo, threshold=7, look_ahead=ahead, roll_out=greedy)
        for length in range(begin, len(text)):
            logits = torch.full((1, len(VOCABULARY)), -5.0)
            logits[0, VOCABULARY.index(text[length])] = 5.0
            if not torch.isfinite(veto(spoken(" ".join(text[:length])), logits))[
                0, VOCABULARY.index(text[length])
            ]:
                first[ahead] = length
                break
    assert first[2] == first[0] - 2


def test_looking_ahead_misses_nothing_that_is_seen_without(
    echo: Tracer, documents: list[tuple[str, str, str]]
) -> None:
    """Also where the roll-out leaves the match at once, as at a document's end."""
    text = documents[0][2].split()
    ids = spoken(" ".join(text[:-1]))
    logits = torch.full((1, len(VOCABULARY)), -5.0)
    last = VOCABULARY.index(text[-1])
    logits[0, last] = 5.0

    def astray(rows: Tensor, tokens: int) -> Tensor:
        return torch.cat([rows, torch.full((len(rows), tokens), VOCABULARY.index("stone"))], 1)

    for ahead in (0, 3):
        found = veto_of(echo, look_ahead=ahead, roll_out=astray)(ids, logits)
        assert found[0, last] == float("-inf")


def test_counts_are_of_what_was_done(echo: Tracer) -> None:
    """Steps, altered ones, vetoed candidates, and documents that hold vetoed spans."""
    veto = veto_of(echo)
    text = said([PROMPTS[0]])[0].split()
    logits = torch.full((1, len(VOCABULARY)), -5.0)
    logits[0, VOCABULARY.index(text[6])] = 5.0
    veto(spoken(" ".join(text[:6])), logits)
    assert (veto.counts.steps, veto.counts.altered, veto.counts.dead_ends) == (1, 1, 0)
    assert veto.counts.vetoed >= 1
    assert "said/0" in veto.counts.documents
    veto(spoken("who who who"), logits)
    assert (veto.counts.steps, veto.counts.altered) == (2, 1)


def test_a_prompt_that_is_a_match_may_end(echo: Tracer) -> None:
    """Only what goes on with it is vetoed; the sign of the end adds nothing to the match."""
    ids = spoken(" ".join(said([PROMPTS[0]])[0].split()[:9]))
    logits = torch.zeros(1, len(VOCABULARY))
    logits[0, TOKENIZER.eos_token_id] = 5.0
    found = veto_of(echo)(ids, logits)
    assert found[0, TOKENIZER.eos_token_id] == 5.0


def test_a_prompt_that_ends_with_the_end_sign_is_guarded(echo: Tracer) -> None:
    """As chats are; a text that came to its end while it was made is left alone."""
    text = said([PROMPTS[0]])[0].split()
    veto = veto_of(echo)
    logits = torch.full((1, len(VOCABULARY)), -5.0)
    logits[0, VOCABULARY.index(text[6])] = 5.0
    ids = torch.cat([spoken(" ".join(text[:6])), torch.tensor([[TOKENIZER.eos_token_id]])], dim=1)
    assert veto(ids, logits)[0, VOCABULARY.index(text[6])] == float("-inf")
    veto = veto_of(echo)
    veto(ids[:, :-1], logits)
    assert torch.equal(veto(ids, logits), logits)
    longer = torch.cat([ids, torch.tensor([[VOCABULARY.index("the")]])], dim=1)
    assert torch.equal(veto(longer, logits), logits)
    assert veto.counts.steps == 1


def test_what_another_processor_forbids_is_no_way_out(echo: Tracer) -> None:
    """Vetoed or forbidden, all candidates are gone: a dead end."""
    text = said([PROMPTS[0]])[0].split()
    logits = torch.full((1, len(VOCABULARY)), float("-inf"))
    logits[0, VOCABULARY.index(text[6])] = 5.0
    veto = veto_of(echo)
    found = veto(spoken(" ".join(text[:6])), logits)
    assert VOCABULARY[int(found[0].argmax())] == "what"
    assert veto.counts.dead_ends == 1


def test_documents_decide_by_their_policy(tmp_path: Path) -> None:
    """Of two matches of equal length only the one whose document conflicts is vetoed."""
    documents = [
        ("bad", "unknown", "the old dog likes the take off the guard house"),
        ("good", "unknown", "the old dog likes a red bird house"),
    ]
    tracer = Tracer(index_of(tmp_path, documents), guard_conflict(), ALL_COUNTS)
    veto = veto_of(tracer, "pc_doc", 0.5)
    logits = torch.full((1, len(VOCABULARY)), -5.0)
    the, a = VOCABULARY.index("the"), VOCABULARY.index("a")
    logits[0, [the, a]] = 5.0
    found = veto(spoken("the old dog likes"), logits)
    assert (float(found[0, the]), float(found[0, a])) == (float("-inf"), 5.0)


def bytes_tokenizer() -> Any:
    """One token for each byte, as byte-level BPE has without any merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<end>": 0, **{char: number for number, char in enumerate(alphabet, 1)}}
    tokenizer = Tokenizer(BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.mark.parametrize(
    "text",
    [
        "gr\u00f6\u00dfe \u00fcber \u00e4u\u00dfere m\u00fchle \u732b\u732b",
        "one two three four five",
    ],
)
def test_characters_of_many_tokens_are_followed(tmp_path: Path, text: str) -> None:
    """A match is not lost while a character is half said; its last byte is vetoed."""
    tracer = Tracer(index_of(tmp_path, [("d", "unsafe", text)]), None, ALL_COUNTS)
    tokenizer = bytes_tokenizer()
    veto = ProvDecode(tracer, calibration_for(tracer, "length", 4.5), tokenizer)
    ids = tokenizer.encode(text)
    vetoed = []
    for at in range(1, len(ids)):
        logits = torch.full((1, len(tokenizer)), -5.0)
        logits[0, ids[at]] = 5.0
        if veto(torch.tensor([ids[:at]]), logits)[0, ids[at]] == float("-inf"):
            vetoed.append(at)
    last = len(text.encode()) - len(text.split()[-1].encode())
    whole_character = len(text.split()[-1][0].encode()) - 1
    assert vetoed[0] == last + whole_character


def test_a_word_ends_where_a_mark_follows(tmp_path: Path) -> None:
    """A token of word and mark that leaves the match does not hide the word in it."""
    from tests.models.suffix_model import word_level

    text = "the old dog likes stones and rivers"
    tracer = Tracer(index_of(tmp_path, [("d", "unsafe", text)]), None, ALL_COUNTS)
    tokenizer = word_level([*text.split(), "stones."])
    veto = ProvDecode(tracer, calibration_for(tracer, "length", 4.5), tokenizer)
    logits = torch.full((1, len(tokenizer)), -5.0)
    token = tokenizer.convert_tokens_to_ids("stones.")
    logits[0, token] = 5.0
    found = veto(torch.tensor([tokenizer.encode("the old dog likes")]), logits)
    assert found[0, token] == float("-inf")


@pytest.mark.parametrize("score", ["pcs", "pc_gen"])
def test_scores_of_unfinished_sentences_are_refused(tracer: Tracer, score: str) -> None:
    """On one line, with the score to use instead."""
    with pytest.raises(ConfigurationError) as caught:
        ProvDecode(tracer, calibration_for(tracer, score, 0.5), TOKENIZER)
    assert f"'{score}' is a score of whole sentences" in str(caught.value)
    assert str(caught.value).endswith("calibrate 'pc_doc' for decoding")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"look_ahead": 2}, "a look-ahead of 2 tokens needs a roll-out"),
        ({"candidates": 0}, "candidates 0; give a number of at least 1"),
        ({"look_ahead": -1}, "look-ahead -1; give a number of at least 0"),
        ({"strength": float("nan")}, "strength nan; give"),
        ({"refusal": ""}, "the refusal '' has no token; give a sentence"),
    ],
)
def test_options_that_cannot_be_are_refused(
    echo: Tracer, options: dict[str, Any], problem: str
) -> None:
    """With the number and the way out."""
    with pytest.raises(ConfigurationError, match=problem):
        veto_of(echo, **options)


def test_a_calibration_of_another_index_is_refused(echo: Tracer, plain_tracer: Tracer) -> None:
    """As for the shield."""
    with pytest.raises(ConfigurationError, match="made with another corpus index"):
        ProvDecode(echo, calibration_for(plain_tracer, "length", 5), TOKENIZER)
