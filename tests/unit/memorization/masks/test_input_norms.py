"""Norms are means over the rows that count, whatever the batches are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from auditor.errors import NothingToAudit, UnsupportedModel
from auditor.memorization.masks.input_norms import recording
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite


def _site(inputs: int = 5) -> WeightSite:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, 3)
    return WeightSite("blocks.0.ff.net.2", SiteKind.FEED_FORWARD, layer, transposed=False)


def test_norms_are_root_mean_squares_in_any_batches() -> None:
    site = _site()
    values = torch.randn(4, 7, 5)
    expected = values.square().mean(dim=1)
    for batches in ([[0, 1, 2, 3]], [[2, 0], [3], [1]]):
        with recording([site], 4) as recorder, torch.no_grad():
            for batch in batches:
                recorder.expect(batch)
                site.module(values[batch])
        norms = recorder.finished()
        assert torch.allclose(norms.squares[site.name][:, 0].float(), expected, atol=1e-6)
        assert torch.allclose(
            norms.norms(site.name, [1, 3])[0].float(), expected[[1, 3]].mean(dim=0).sqrt()
        )
    assert not site.module._forward_pre_hooks


def test_masked_tokens_and_other_halves_do_not_count() -> None:
    site = _site()
    values = torch.randn(2, 4, 5)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    with recording([site], 1) as recorder, torch.no_grad():
        recorder.expect([0, -1], mask)
        site.module(values)
    norms = recorder.finished()
    assert int(norms.rows[0, 0]) == 2
    expected = values[0, :2].square().mean(dim=0).double()
    assert torch.allclose(norms.squares[site.name][0, 0], expected)


def test_flattened_rows_belong_to_their_prompts() -> None:
    site = _site()
    values = torch.randn(2, 3, 5)
    with recording([site], 2) as recorder, torch.no_grad():
        recorder.expect([1, 0])
        site.module(values.reshape(6, 5))
    squares = recorder.finished().squares[site.name]
    assert torch.allclose(squares[1, 0].float(), values[0].square().mean(dim=0))


def test_rows_of_unit_length_tell_of_direction_alone() -> None:
    site = _site()
    values = torch.randn(1, 6, 5)
    found = []
    for scale in (1.0, 9.0):
        with recording([site], 1, unit_rows={SiteKind.FEED_FORWARD}) as recorder, torch.no_grad():
            recorder.expect([0])
            site.module(values * scale)
        found.append(recorder.finished().squares[site.name])
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert float(found[0].sum()) == pytest.approx(1.0, abs=1e-5)


def test_groups_are_kept_apart() -> None:
    site = _site()
    values = torch.randn(2, 1, 3, 5)
    with recording([site], 1, groups=2) as recorder, torch.no_grad():
        for group in range(2):
            recorder.expect([0], group=group)
            site.module(values[group])
    squares = recorder.finished().squares[site.name][0]
    assert torch.allclose(squares.float(), values[:, 0].square().mean(dim=1))


def test_an_activation_that_is_not_finite_names_its_layer() -> None:
    site = _site()
    with recording([site], 1) as recorder, torch.no_grad():
        recorder.expect([0])
        with pytest.raises(UnsupportedModel, match=r"blocks\.0\.ff\.net\.2: an activation is NaN"):
            site.module(torch.full((1, 2, 5), float("nan")))


def test_rows_that_belong_to_no_prompt_are_refused() -> None:
    site = _site()
    with recording([site], 3) as recorder, torch.no_grad():
        recorder.expect([0, 1, 2])
        with pytest.raises(UnsupportedModel, match="for a batch of 3"):
            site.module(torch.ones(4, 5))


def test_a_prompt_that_was_not_run_is_no_zero() -> None:
    site = _site()
    with recording([site], 2) as recorder, torch.no_grad():
        recorder.expect([0])
        site.module(torch.ones(1, 2, 5))
    with pytest.raises(NothingToAudit, match="run every one"):
        recorder.finished()
