"""A model with an intervention in its own numbers acts as the steered model does."""

from __future__ import annotations

import pytest
import torch

from auditor.errors import UnsupportedModel
from auditor.experts.intervention import Intervention, Method
from auditor.experts.routers import find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.experts.weight_edit import can_edit, edit_weights
from tests.models.moe_families import small_moe

IDS = torch.tensor([[4, 9, 33, 21, 8, 60, 17], [3, 3, 50, 51, 52, 7, 6]])
OFF = frozenset({Expert(1, 0), Expert(2, 5)})
ON = frozenset({Expert(1, 3)})


@pytest.mark.parametrize(
    ("family", "intervention"),
    [
        *((family, Intervention(Method.ZERO_OUTPUT, OFF)) for family in
          ("mixtral", "olmoe", "gpt_oss", "deepseek_v3", "llama4_text", "gemma4_text")),
        ("gpt_oss", Intervention(Method.MASK_LOGIT, OFF)),
        ("deepseek_v3", Intervention(Method.MASK_LOGIT, OFF)),
        ("deepseek_v3", Intervention(Method.FORCE_SELECT, OFF, ON)),
        ("glm4_moe", Intervention(Method.FORCE_SELECT, OFF, ON)),
    ],
)  # fmt: skip
def test_the_edited_model_acts_as_the_steered_one(family: str, intervention: Intervention) -> None:
    routed = find_routers(small_moe(family))
    with torch.inference_mode():
        before = routed.model(input_ids=IDS).logits
        with steered(routed, intervention):
            expected = routed.model(input_ids=IDS).logits
    edit_weights(routed, intervention)
    with torch.inference_mode():
        found = routed.model(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-3)


@pytest.mark.parametrize("method", [Method.MASK_LOGIT, Method.ZERO_WEIGHT, Method.FORCE_SELECT])
def test_what_no_weight_can_say_is_refused_and_changes_nothing(method: Method) -> None:
    routed = find_routers(small_moe("mixtral"))
    before = {name: value.clone() for name, value in routed.model.state_dict().items()}
    intervention = Intervention(method, OFF)
    assert not can_edit(routed, intervention)
    with pytest.raises(UnsupportedModel, match=r"cannot say .*ONNX"):
        edit_weights(routed, intervention)
    assert all(torch.equal(before[name], now) for name, now in routed.model.state_dict().items())
