"""Whether the experts of an intervention exist in a model and can be switched as asked.

A row always chooses k experts: with too few left to choose from, one that is off comes back, and
no more than k can be on. Where groups are chosen first, both hold for the groups as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from auditor.errors import ConfigurationError
from auditor.experts.intervention import Intervention, LayerSize, Method, refuse_unfit
from auditor.experts.onnx_routers import OnnxRouter

_ACTS_ON_GROUPS: Final = frozenset({Method.MASK_LOGIT, Method.FORCE_SELECT})
_GROUP_SUM: Final = 2
"""How many of its best experts a group is judged by."""


def refuse_impossible(intervention: Intervention, routers: Sequence[OnnxRouter]) -> None:
    """Raise where an intervention cannot do in these routers what its method says.

    Raises:
        ConfigurationError: Experts that do not exist; more on in a layer than are chosen; so many
            off that a row would have to choose one of them; or on or off in such a way that the
            choice of groups decides against it.
    """
    refuse_unfit(
        intervention, {each.layer: LayerSize(each.experts, each.chosen) for each in routers}
    )
    if intervention.method not in _ACTS_ON_GROUPS:
        return
    for router in routers:
        on, off = experts_of(intervention.on, router), experts_of(intervention.off, router)
        if router.groups is None or not (on or off):
            continue
        _refuse_lost_groups(router, on, off)
        least = _least_eligible(router, on, off)
        if off and least < router.chosen:
            raise ConfigurationError(
                f"too many experts off in layer {router.layer}: {least} may be all that is left to "
                f"choose {router.chosen} from; switch fewer off, or use zero_weight or zero_output"
            )


def experts_of(experts: Collection[tuple[int, int]], router: OnnxRouter) -> list[int]:
    """Numbers of those experts that are a router's, sorted."""
    return sorted(number for layer, number in experts if layer == router.layer)


def _refuse_lost_groups(router: OnnxRouter, on: Collection[int], off: Collection[int]) -> None:
    """Refuse what the choice of groups, made by the sum of a group's two best, would undo.

    Beside a mask of -1e9 the other score of a sum is lost to rounding, so that groups of which
    one expert is left cannot be told from each other.
    """
    kept = 0 if router.groups is None else router.groups.kept
    groups = _members(router)
    whole = [members for members in groups if len(members - set(off)) >= _GROUP_SUM]
    if len(whole) < kept:
        raise ConfigurationError(
            f"too many experts off in layer {router.layer}: {_GROUP_SUM} or more are left in "
            f"{len(whole)} groups, a token is sent to {kept}; switch fewer off, or use "
            "zero_weight or zero_output"
        )
    forced = [members for members in groups if members & set(on)]
    if len(forced) > kept:
        raise ConfigurationError(
            f"experts on in {len(forced)} groups of layer {router.layer}, a token is sent to "
            f"{kept}; switch on experts of fewer groups"
        )
    if any(members not in whole for members in forced):
        raise ConfigurationError(
            f"a group of layer {router.layer} has experts on, and fewer than {_GROUP_SUM} that "
            "are not off, by which it is judged; switch fewer off"
        )


def _least_eligible(router: OnnxRouter, on: Collection[int], off: Collection[int]) -> int:
    """How many experts are left in the kept groups if those with most experts off are kept.

    Groups with an expert on are kept for sure, those with fewer than two experts left never.
    """
    kept = 1 if router.groups is None else router.groups.kept
    left = [
        (not members & set(on), len(members - set(off))) for members in _members(router)
        if len(members - set(off)) >= _GROUP_SUM
    ]  # fmt: skip
    return sum(count for _, count in sorted(left)[:kept])


def _members(router: OnnxRouter) -> list[set[int]]:
    count = 1 if router.groups is None else router.groups.count
    size = router.experts // count
    return [set(range(group * size, (group + 1) * size)) for group in range(count)]
