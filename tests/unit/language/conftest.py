"""Small models that were exported once for every test that only reads them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_export import Exported, export_causal_lm
from auditor.language.onnx_lm import OnnxCausalLM
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer

TEMPLATE = "{{ '<user> ' + messages[0]['content'] + ' <assistant>' }}"


class Twins(NamedTuple):
    """One model, run by torch and by onnxruntime, and what its export said."""

    torch: CausalLM
    onnx: OnnxCausalLM
    exported: Exported


def export_twins(place: Path, family: Family) -> Twins:
    """A random model with a chat template, saved below `place` and exported there."""
    tokenizer = word_tokenizer(start=family == "llama", template=TEMPLATE)
    source = save_folder(place / "source", random_model(family), tokenizer)
    exported = export_causal_lm(source, place / "exported")
    return Twins(CausalLM.open(source), OnnxCausalLM.open(exported.path), exported)


@pytest.fixture(scope="session", params=["llama", "qwen3_moe"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """A dense model and a mixture of experts; do not write to their folders."""
    return export_twins(tmp_path_factory.mktemp("twins"), request.param)
