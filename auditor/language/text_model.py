"""What every opened language model offers, whatever runs it: continue, score, ask in its format.

`CausalLM` (torch) and `OnnxCausalLM` (onnxruntime) bring the network, this the calls around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language.chat_template import render_chat
from auditor.language.generation import (
    Completion,
    Progress,
    Settings,
    generate_batch,
    next_token_logits,
    plan_batches,
)
from auditor.language.likelihood import score_tokens
from auditor.language.network import Network
from auditor.language.opening import quiet_transformers
from auditor.language.teacher_forcing import ContinuationReading, read_continuations
from auditor.models.transformers_folder import ModelFolder

if TYPE_CHECKING:
    from transformers import LogitsProcessor

MAX_WINDOW: Final = 2048


@dataclass(frozen=True, eq=False)
class TextModel:
    """An opened model. Nothing here changes random state, threads or the model.

    Attributes:
        folder: Where it came from, with its digest.
        device: `cpu` or `cuda`.
        tokenizer: transformers' tokenizer.
        max_tokens: How many tokens the model can see at once.
        start: The token that its tokenizer puts before every text, if it does.
        network: What computes logits.
        ends: Tokens that end a text, by tokenizer and generation_config.json.
    """

    folder: ModelFolder
    device: str
    tokenizer: Any
    max_tokens: int
    start: int | None
    network: Network
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, after the beginning-of-text token if the tokenizer adds one.

        The token is not doubled where the text, like most chat templates, starts with it.
        Nothing is added at the end.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if self.start is None or ids[:1] == [self.start]:
            return ids
        return [self.start, *ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return str(
            self.tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def chat(self, prompt: str, system: str | None = None) -> str:
        """The prompt as the model was trained to be asked, up to where its answer begins.

        Raises:
            RefusedModel: The chat template tries to leave its sandbox, or is too long.
            ConfigurationError: The template does not take this conversation.
        """
        return render_chat(self.tokenizer, self.folder.path, prompt, system)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
        processors: Sequence[LogitsProcessor] = (),
        batch_size: int = 16,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Completion]:
        """One completion for each prompt, in order.

        A prompt gets the same completion whatever runs beside it, as long as no two tokens
        are closer than the rounding of another batch shape (about 1e-6 of a logit in float32);
        a batch of one rules that out, too. Equal prompts get equal completions: other samples
        of a prompt need another seed.

        Args:
            prompts: Texts; chat models want them from `chat`.
            max_new_tokens: At most so many tokens each, at least 1.
            seed: Of sampling, together with the prompt.
            temperature: 0 takes the most likely token, else the logits are divided by it.
            processors: Of transformers, called with token ids [rows, tokens] and float32
                logits [rows, vocabulary]. With any, prompts of a batch are of one length, so
                they see no padding; rows that ended go on and are ignored. The same objects
                serve all batches, one after another.
            batch_size: Prompts at once.
            stop: Strings that end a completion; it is cut before them.
            progress: Called with prompts done and in all.

        Raises:
            ConfigurationError: A setting out of range, or a prompt that is empty or too long.
        """
        return self.continue_tokens(
            [self._prompt_ids(number, text) for number, text in enumerate(prompts, 1)],
            max_new_tokens=max_new_tokens, seed=seed, temperature=temperature,
            processors=processors, batch_size=batch_size, stop=stop, progress=progress,
        )  # fmt: skip

    def continue_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
        processors: Sequence[LogitsProcessor] = (),
        batch_size: int = 16,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Completion]:
        """One completion for each prompt of token ids, in order; nothing is put before them.

        Args and Raises: As `generate`; ids are those of the model's own tokenizer.
        """
        settings = self._settings(max_new_tokens, seed, temperature, processors, stop)
        _require(batch_size >= 1, f"batch size {batch_size}; give at least 1")
        for number, prompt in enumerate(prompts, 1):
            _require(len(prompt) > 0, f"prompt {number} has no tokens; give at least one")
            _require(
                len(prompt) + max_new_tokens <= self.max_tokens,
                f"prompt {number} has {len(prompt)} tokens and {max_new_tokens} are to follow, "
                f"the model sees {self.max_tokens}; shorten one of them",
            )
        completions: dict[int, Completion] = {}
        same_length = bool(processors) or self.network.keeps_state
        for batch in plan_batches(prompts, batch_size, same_length):
            texts = [prompts[position] for position in batch]
            with quiet_transformers():
                found = generate_batch(self.network, texts, settings, self.decode)
            completions.update(zip(batch, found, strict=True))
            if progress is not None:
                progress(len(completions), len(prompts))
        return [completions[position] for position in range(len(prompts))]

    def read_continuations(
        self,
        prefixes: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[ContinuationReading]:
        """What the model expects at each token of known continuations, in one pass over each.

        See `auditor.language.teacher_forcing`.

        Args:
            prefixes: Token ids before each continuation, at least one each.
            continuations: Token ids that follow, at least one each.
            batch_size: Texts at once; fewer where their logits would take over 512 MiB.
            progress: Called with texts done and in all.

        Raises:
            ConfigurationError: One of them is empty, or both together are too long.
            UnsupportedModel: A logit is not finite.
        """
        _require(batch_size >= 1, f"batch size {batch_size}; give at least 1")
        for number, (before, after) in enumerate(zip(prefixes, continuations, strict=True), 1):
            _require(
                len(before) > 0 and len(after) > 0,
                f"text {number} has {len(before)} tokens and {len(after)} after them; give at "
                "least one of each",
            )
            _require(
                len(before) + len(after) <= self.max_tokens,
                f"text {number} has {len(before)} tokens and {len(after)} after them, the model "
                f"sees {self.max_tokens}; shorten one of them",
            )
        with quiet_transformers():
            return read_continuations(
                self.network, prefixes, continuations, batch_size=batch_size, progress=progress
            )

    def next_token_log_probabilities(
        self, prompts: Sequence[str], *, tokens: Sequence[int] | None = None, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """Natural logarithms of the chance of each token after each prompt.

        Args:
            prompts: Texts; chat models want them from `chat`.
            tokens: Ids of the tokens asked about; the whole vocabulary if None.
            batch_size: Prompts at once.

        Returns:
            [prompts, tokens or vocabulary], float32.

        Raises:
            ConfigurationError: Batch size out of range, or a prompt that is empty or too long.
            UnsupportedModel: A logit is not finite.
        """
        _require(batch_size >= 1, f"batch size {batch_size}; give at least 1")
        ids = [self._prompt_ids(number, text) for number, text in enumerate(prompts, 1)]
        for number, prompt in enumerate(ids, 1):
            _require(
                len(prompt) <= self.max_tokens,
                f"prompt {number} has {len(prompt)} tokens, the model sees {self.max_tokens}; "
                "shorten it",
            )
        found: dict[int, NDArray[np.float32]] = {}
        for batch in plan_batches(ids, batch_size, self.network.keeps_state):
            with quiet_transformers():
                logits = next_token_logits(self.network, [ids[at] for at in batch], self._pad())
            logs = logits.log_softmax(-1).cpu().numpy()
            if np.isnan(logs).any():
                raise UnsupportedModel("its logits are not finite", way_out="look at the weights")
            found.update(zip(batch, logs if tokens is None else logs[:, list(tokens)], strict=True))
        if not found:
            width = 0 if tokens is None else len(tokens)
            return np.empty((0, width), np.float32)
        return np.stack([found[position] for position in range(len(ids))])

    def token_nll(
        self,
        texts: Sequence[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[NDArray[np.float64]]:
        """Nats of each token given the tokens before it, one array [tokens] for each text.

        Entry i belongs to token i of the text, without the beginning-of-text token. Where the
        tokenizer has such a token it stands before the text; otherwise nothing is before the
        first token and its entry is NaN.

        Args:
            texts: What to score.
            window: Tokens seen at once; the model's own limit, at most 2,048, if not given.
            stride: By how many tokens windows of longer texts move on; half a window if not
                given. Tokens past the first window have at least window - stride before them.
            batch_size: Windows at once; fewer where their logits would take over 512 MiB.
            progress: Called with windows done and in all.

        Raises:
            ConfigurationError: Window or stride out of range.
        """
        window = min(self.max_tokens, MAX_WINDOW) if window is None else window
        stride = window // 2 if stride is None else stride
        _require(
            2 <= window <= self.max_tokens,
            f"window of {window} tokens; give 2 to {self.max_tokens}",
        )
        _require(1 <= stride < window, f"stride {stride}; give 1 to {window - 1}, below the window")
        _require(batch_size >= 1, f"batch size {batch_size}; give at least 1")
        start = self.tokenizer.bos_token_id
        bare = [self._without_start(text) for text in texts]
        with quiet_transformers():
            scored = score_tokens(
                self.network,
                bare if start is None else [[start, *ids] for ids in bare],
                window=window,
                stride=stride,
                batch_size=batch_size,
                progress=progress,
            )
        return scored if start is None else [nats[1:] for nats in scored]

    def mean_nats(self, texts: Sequence[str]) -> list[float]:
        """Mean nats of a token of each text; NaN where no token has another before it."""
        known = [nats[~np.isnan(nats)] for nats in self.token_nll(texts)]
        return [float(nats.mean()) if len(nats) else math.nan for nats in known]

    def perplexity(
        self,
        texts: Sequence[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = 16,
    ) -> float:
        """Exp of the mean nats of all tokens of all texts; settings as for `token_nll`.

        Raises:
            ConfigurationError: A setting out of range, or no token has another before it.
        """
        scored = self.token_nll(texts, window=window, stride=stride, batch_size=batch_size)
        nats = np.concatenate([np.empty(0), *scored])
        known = nats[~np.isnan(nats)]
        _require(len(known) > 0, "perplexity of no tokens; give texts that are not empty")
        return math.exp(known.mean())

    def _without_start(self, text: str) -> list[int]:
        """Token ids of a text as it stands, before any beginning-of-text token."""
        ids = self.encode(text)
        return ids[1:] if self.start is not None and ids[:1] == [self.start] else ids

    def _prompt_ids(self, number: int, text: str) -> list[int]:
        ids = self.encode(text)
        _require(
            bool(ids),
            f"prompt {number} has no tokens and the tokenizer puts none before it; "
            "give at least one word",
        )
        return ids

    def _settings(
        self,
        max_new_tokens: int,
        seed: int,
        temperature: float,
        processors: Sequence[LogitsProcessor],
        stop: Sequence[str],
    ) -> Settings:
        _require(max_new_tokens >= 1, f"{max_new_tokens} new tokens; give at least 1")
        _require(
            0 <= temperature < math.inf, f"temperature {temperature}; give 0 or a positive number"
        )
        _require(all(stop), "an empty stop string; give at least one character or none at all")
        return Settings(
            max_new_tokens, seed, temperature, tuple(processors), tuple(stop), self.ends,
            self._pad(),
        )  # fmt: skip

    def _pad(self) -> int:
        """What fills the rows of a batch; nothing sees it."""
        pad: int | None = self.tokenizer.pad_token_id
        return pad if pad is not None else min(self.ends, default=0)


def added_start(tokenizer: Any) -> int | None:
    """The beginning-of-text token, if the tokenizer puts it before every text."""
    added: list[int] = tokenizer("", add_special_tokens=True)["input_ids"]
    start: int | None = tokenizer.bos_token_id
    return start if start is not None and added[:1] == [start] else None


def as_ends(named: Any, tokenizer: Any) -> frozenset[int]:
    """Ends of text: what a configuration names (one token, many, none), and the tokenizer's."""
    many = named if isinstance(named, list) else [named]
    return frozenset(int(token) for token in [*many, tokenizer.eos_token_id] if token is not None)


def token_limit(config: Any) -> int:
    """How many tokens a model of this configuration sees; `MAX_WINDOW` if it does not say."""
    text = config.get_text_config(decoder=True)
    return int(getattr(text, "max_position_embeddings", None) or MAX_WINDOW)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigurationError(otherwise)
