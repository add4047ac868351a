"""A written model acts as the steered one, and nothing is left where it would not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch

from auditor.errors import AuditorError, FileChanged, OperationFailed, UnsupportedModel
from auditor.experts.intervention import Intervention, Method
from auditor.experts.routers import Coverage, RoutedModel, find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.fixes.steered_model import TOLERANCE, require_writable, write_steered
from auditor.language.causal_lm import CausalLM
from auditor.language.language_model import open_language_model
from auditor.language.opening import quiet_transformers
from auditor.models.onnx_folder import GRAPH
from tests.models.moe_families import small_moe
from tests.models.planted_moe import Family, PlantedMoe, write_planted_moe
from tests.unit.fixes.test_deconfliction import files_of, files_up_to

CARRIER, OTHERS = Expert(1, 3), frozenset({Expert(0, 2), Expert(1, 0)})


class Planted(NamedTuple):
    """A planted model, opened."""

    moe: PlantedMoe
    model: CausalLM
    routed: RoutedModel

    @property
    def prompts(self) -> list[str]:
        """As it is asked: two of each kind."""
        return [self.model.chat(each.text) for pair in self.moe.pairs[:2] for each in pair]


def planted(folder: Path, family: Family = Family.QWEN3_MOE) -> Planted:
    """With logits of hundreds instead of thousands: an export is held to 1e-4 of them."""
    moe = write_planted_moe(folder, family)
    model = CausalLM.open(folder)
    with torch.no_grad():
        model.model.lm_head.weight.clamp_(min=-400.0)
    with quiet_transformers():
        model.model.save_pretrained(folder)
    model = CausalLM.open(folder)
    return Planted(moe, model, find_routers(model.model))


def off(method: Method) -> Intervention:
    return Intervention(method, off=OTHERS | {CARRIER})


WEIGHTS = [
    (Family.QWEN3_MOE, off(Method.ZERO_OUTPUT)), (Family.GPT_OSS, off(Method.ZERO_OUTPUT)),
    (Family.GPT_OSS, off(Method.MASK_LOGIT)), (Family.DEEPSEEK_V3, off(Method.MASK_LOGIT)),
    (Family.DEEPSEEK_V3, off(Method.FORCE_SELECT)),
    (Family.DEEPSEEK_V3, Intervention(Method.FORCE_SELECT, on=frozenset({CARRIER}))),
]  # fmt: skip
GRAPHS = [
    *((Family.QWEN3_MOE, off(method)) for method in Method if method is not Method.ZERO_OUTPUT),
    (Family.QWEN3_MOE, Intervention(Method.FORCE_TOK, on=frozenset({CARRIER}))),
    (Family.GPT_OSS, off(Method.ZERO_WEIGHT)),
]  # fmt: skip


def acts_as_steered(found: Planted, intervention: Intervention, out: Path) -> None:
    """On prompts that it was not held to when it was written; its answers are the planted ones."""
    untouched = files_of(found.moe.folder)
    digest = write_steered(found.model, found.routed, intervention, out, found.prompts)
    written = open_language_model(out, expected_digest=digest)
    pairs = found.moe.pairs[5::24]
    asked = [found.model.chat(each.text) for pair in pairs for each in pair]
    with steered(found.routed, intervention):
        expected = found.model.next_token_log_probabilities(asked)
    base = found.model.next_token_log_probabilities(asked)
    new = written.next_token_log_probabilities(asked)
    likely = expected > np.log(1e-6)
    assert np.abs(new - expected)[likely].max() <= TOLERANCE
    assert np.abs(new - base).max() > 1.0
    answers = [each.text for each in written.generate(asked, max_new_tokens=8)]
    assert answers == [found.moe.answer(each, intervention) for pair in pairs for each in pair]
    assert files_of(found.moe.folder) == untouched
    assert sorted(path.name for path in out.parent.iterdir()) == ["moe", "new"]


@pytest.mark.parametrize(("family", "intervention"), WEIGHTS)
def test_weights_that_can_say_it_are_written_as_transformers_does(
    tmp_path: Path, family: Family, intervention: Intervention
) -> None:
    acts_as_steered(planted(tmp_path / "moe", family), intervention, tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert "model.safetensors" in names
    assert GRAPH not in names
    assert {path.name for path in (tmp_path / "moe").iterdir()} <= names


@pytest.mark.slow
@pytest.mark.parametrize(("family", "intervention"), GRAPHS)
def test_all_else_is_written_as_a_graph(
    tmp_path: Path, family: Family, intervention: Intervention
) -> None:
    """Whose metadata name method, experts and base."""
    acts_as_steered(planted(tmp_path / "moe", family), intervention, tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert GRAPH in names
    assert not any(name.endswith(".safetensors") or name == "exported" for name in names)
    proto = onnx.load(tmp_path / "new" / GRAPH)
    said = {each.key: each.value for each in proto.metadata_props}
    listed = [" ".join(map(str, sorted(each))) for each in (intervention.off, intervention.on)]
    assert [said[f"auditor.intervention.{key}"] for key in ("method", "off", "on")] == [
        str(intervention.method), *listed,
    ]  # fmt: skip
    assert said["auditor.intervention.base"].startswith("sha256:")


def nothing_is_left(
    found: Planted, intervention: Intervention, out: Path, error: type[AuditorError], message: str
) -> None:
    before = files_of(found.moe.folder)
    with pytest.raises(error, match=message):
        write_steered(found.model, found.routed, intervention, out, found.prompts)
    assert [path.name for path in out.parent.iterdir()] == ["moe"]
    assert files_of(found.moe.folder) == before


def test_a_model_that_would_act_otherwise_is_not_written(tmp_path: Path) -> None:
    """The one that was measured answers differently from its folder."""
    found = planted(tmp_path / "moe")
    with torch.no_grad():
        found.model.model.lm_head.weight[:, 0] += torch.arange(
            found.model.model.lm_head.weight.shape[0]
        )
    nothing_is_left(found, off(Method.ZERO_OUTPUT), tmp_path / "new", OperationFailed,
                    r"new differs from the steered one by .* nothing was written")  # fmt: skip


def test_logits_that_are_none_are_not_taken_for_alike(tmp_path: Path) -> None:
    found = planted(tmp_path / "moe")
    spoiled = CausalLM.open(found.moe.folder)
    with torch.no_grad():
        spoiled.model.model.norm.weight.fill_(torch.nan)
    with quiet_transformers():
        spoiled.model.save_pretrained(tmp_path / "moe")
    model = CausalLM.open(tmp_path / "moe")
    with torch.no_grad():
        model.model.model.norm.weight.fill_(1.0)
    odd = Planted(found.moe, model, find_routers(model.model))
    nothing_is_left(odd, off(Method.ZERO_OUTPUT), tmp_path / "new", UnsupportedModel, "not finite")


@pytest.mark.parametrize(
    "method", [Method.ZERO_OUTPUT, pytest.param(Method.ZERO_WEIGHT, marks=pytest.mark.slow)]
)
def test_a_folder_that_changed_since_it_was_measured_is_not_written(
    tmp_path: Path, method: Method
) -> None:
    """As weights or as a graph."""
    found = planted(tmp_path / "moe")
    config = json.loads((tmp_path / "moe/config.json").read_text("utf-8"))
    config["rms_norm_eps"] = 0.5
    (tmp_path / "moe/config.json").write_text(json.dumps(config), "utf-8")
    nothing_is_left(found, off(method), tmp_path / "new", FileChanged, "changed during the run")


@pytest.mark.parametrize("size", [20_000, 300], ids=["weights", "configuration"])
def test_a_failing_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    found = planted(tmp_path / "moe")
    with files_up_to(size):
        nothing_is_left(found, off(Method.ZERO_OUTPUT), tmp_path / "new", OperationFailed,
                        r"cannot write .*new")  # fmt: skip


def test_a_model_too_large_for_a_graph_is_refused_before_it_is_measured() -> None:
    """Unless its weights can say the method; a small one can be exported."""
    routed = find_routers(small_moe("qwen3_moe"))
    large = replace(routed, coverage=Coverage(3, 3, 2**29, 2**29))
    for method in Method:
        require_writable(routed, method)
    require_writable(large, Method.ZERO_OUTPUT)
    with pytest.raises(UnsupportedModel, match=(
        r"Qwen3MoeForCausalLM: the weights of this family cannot say mask_logit, and as a graph "
        r"they take 2147483648 bytes .* use zero_output"
    )):  # fmt: skip
        require_writable(large, Method.MASK_LOGIT)
    gpt_oss = replace(find_routers(small_moe("gpt_oss")), coverage=large.coverage)
    require_writable(gpt_oss, Method.MASK_LOGIT)


def test_what_the_old_folder_holds_besides_is_copied(tmp_path: Path) -> None:
    """Byte for byte: tokenizer and chat template."""
    found = planted(tmp_path / "moe")
    shutil.copyfile(tmp_path / "moe/tokenizer_config.json", tmp_path / "moe/vocab.json")
    model = CausalLM.open(tmp_path / "moe")
    found = Planted(found.moe, model, find_routers(model.model))
    write_steered(
        found.model, found.routed, off(Method.ZERO_OUTPUT), tmp_path / "new", found.prompts
    )
    old, new = files_of(tmp_path / "moe"), files_of(tmp_path / "new")
    changed = {"model.safetensors", "config.json", "generation_config.json"}
    assert {name: old[name] for name in set(old) - changed} == {
        name: new[name] for name in set(old) - changed
    }
