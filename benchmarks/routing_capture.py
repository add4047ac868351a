"""What capturing the routing costs beside a plain forward pass, and what steering does.

Side by side in one run, batch by batch, in changing order; medians of the ratios of each pair.

    python benchmarks/routing_capture.py
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from auditor.experts.capture import capture_routing, counted_prompts
from auditor.experts.intervention import Intervention, Method
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert, TokenSet
from auditor.experts.steering import steered
from tests.models.moe_families import small_moe

TOKENS, BATCH = 64, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=41)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = small_moe(
        "qwen3_moe", vocab_size=4_096, hidden_size=192, moe_intermediate_size=128, head_dim=32,
        num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2, num_experts=32,
        num_experts_per_tok=4,
    )  # fmt: skip
    routed = find_routers(model)
    source = np.random.default_rng(0)
    prompts = [source.integers(3, 4_096, TOKENS).tolist() for _ in range(BATCH)]
    texts = counted_prompts(prompts, TokenSet.PROMPT)
    print(f"{routed.coverage}; {BATCH} prompts of {TOKENS} tokens, {options.threads} threads")

    def plain() -> None:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False,
                  logits_to_keep=1)  # fmt: skip

    def captured() -> None:
        capture_routing(routed, texts, TokenSet.PROMPT, batch_size=BATCH)

    show("capture", ratios(captured, plain, options.pairs))
    for method in Method:
        show(f"steered by {method}", ratios(steering(routed, method, plain), plain, options.pairs))


def steering(routed: RoutedModel, method: Method, plain: Callable[[], None]) -> Callable[[], None]:
    """The plain pass under an intervention on two experts."""
    intervention = Intervention(method, frozenset({Expert(2, 3), Expert(5, 7)}))

    def run() -> None:
        with steered(routed, intervention):
            plain()

    return run


def ratios(one: Callable[[], None], other: Callable[[], None], pairs: int) -> list[float]:
    """Seconds of one by those of the other, pair by pair, who goes first changing."""
    one(), other()  # type: ignore[func-returns-value]  # warm
    found = []
    for number in range(pairs):
        order = (one, other) if number % 2 else (other, one)
        seconds = {}
        for run in order:
            started = time.perf_counter()
            run()
            seconds[run] = time.perf_counter() - started
        found.append(seconds[one] / seconds[other])
    return found


def show(name: str, found: list[float]) -> None:
    low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
    print(
        f"{name}: {middle:.3f} times a plain pass (quartiles {low:.3f} to {high:.3f})", flush=True
    )


if __name__ == "__main__":
    main()
