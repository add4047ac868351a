"""Finding the routers of a mixture-of-experts model by what they do, not by what they are called.

Two steps. Modules that hold expert weights (one tensor [experts, ., .], or a list of equal modules)
say how many routed experts there are and where. Then a few tokens run through the model, and the
choice of experts is followed from the top-k of some module into each of them. A layer whose choice
cannot be followed is an error, never left out: tools that skip fused experts silently report
nothing where there is much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from auditor.errors import UnsupportedModel

TOP_K: Final = (torch.topk, Tensor.topk)
_SOFTMAX: Final = (torch.softmax, Tensor.softmax, nn.functional.softmax)
_PROBE: Final = 4
_NUMBER: Final = re.compile(r"\.(\d+)\.")
_CALLED_EXPERTS: Final = re.compile(r"(?:[^.]+\.)*?[^.]*experts[^.]*")
_LISTED: Final = 4
"""Tensors that an error names."""


class Form(StrEnum):
    """Where a layer's choice of experts can be read and changed."""

    GIVEN = "given"
    """The experts' module is given chosen numbers and weights, each [tokens, chosen]."""
    MADE = "made"
    """The choosing module returns them; experts are a list of modules."""
    DENSE = "dense"
    """The choosing module returns scores [tokens, experts], 0 where not chosen (Llama 4)."""


@dataclass(frozen=True, eq=False)
class Router:
    """One mixture-of-experts layer.

    Attributes:
        layer: Number of its decoder layer.
        name: Path of the module that chooses.
        module: That module.
        experts_name: Path of the module that holds the experts.
        experts: That module.
        expert_count: Routed experts, shared ones not among them.
        chosen: Experts for each token.
        softmax: Whether logits become scores by softmax; else each on its own, as by a sigmoid.
        form: How the choice shows itself.
    """

    layer: int
    name: str
    module: nn.Module
    experts_name: str
    experts: nn.Module
    expert_count: int
    chosen: int
    softmax: bool
    form: Form


@dataclass(frozen=True)
class Coverage:
    """What of a model's experts can be reached.

    Attributes:
        layers: Layers with routed experts that were matched.
        expected_layers: Layers that the configuration implies, or that hold expert weights
            where it does not say.
        expert_parameters: Numbers in routed experts.
        parameters: Numbers in the whole model.
    """

    layers: int
    expected_layers: int
    expert_parameters: int
    parameters: int

    def __str__(self) -> str:
        return (
            f"{self.layers} of {self.expected_layers} layers with routed experts, which hold "
            f"{self.expert_parameters:,} of {self.parameters:,} parameters"
        )


@dataclass(frozen=True, eq=False)
class RoutedModel:
    """A model whose routers are all known.

    Attributes:
        model: transformers' model.
        routers: Sorted by layer.
        coverage: What they reach.
    """

    model: Any
    routers: tuple[Router, ...]
    coverage: Coverage

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the decoder layers with routed experts."""
        return tuple(router.layer for router in self.routers)

    @property
    def expert_count(self) -> int:
        """Routed experts of each layer."""
        return self.routers[0].expert_count

    def at(self, layer: int) -> Router:
        """The router of one of `layers`."""
        return self.routers[self.layers.index(layer)]


def find_routers(model: Any, place: str = "") -> RoutedModel:
    """Every router of a model in evaluation mode; a few tokens run through it once.

    Raises:
        UnsupportedModel: It has no routed experts, some that cannot be counted, a layer's choice
            of experts cannot be followed, layers differ in their experts, or there are fewer than
            the configuration implies.
    """
    place = place or type(model).__name__
    holders = dict(_expert_holders(model))
    _refuse_uncounted(model, holders, place)
    if not holders:
        raise UnsupportedModel(
            "no routed experts: it is a dense model, or of a family whose configuration does not "
            "say how many", place=place,
            way_out="give a mixture-of-experts model",
        )  # fmt: skip
    seen = _Watch(model, holders)
    seen.run()
    routers = sorted(
        (_router(name, holders[name], seen, place) for name in holders), key=lambda each: each.layer
    )
    expected = _implied_layers(model) or len(holders)
    _check(routers, expected, place)
    inside = sum(weight.numel() for each in routers for weight in each.experts.parameters())
    total = sum(weight.numel() for weight in model.parameters())
    return RoutedModel(model, tuple(routers), Coverage(len(routers), expected, inside, total))


def _expert_holders(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, int]]]:
    """Modules that hold routed experts, with how many."""
    wanted = _expert_counts(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            kinds = {type(child) for child in module}
            if len(module) in wanted and len(kinds) == 1 and name.rpartition(".")[2] == "experts":
                yield name, (module, len(module))
        else:
            stacked = {
                weight.shape[0] for weight in module.parameters(recurse=False) if weight.ndim == 3
            }
            if len(stacked) == 1 and stacked <= wanted:
                yield name, (module, stacked.pop())


def _refuse_uncounted(
    model: nn.Module, holders: Mapping[str, tuple[nn.Module, int]], place: str
) -> None:
    """Raise where a part of the model is called experts, and no holder is in it or around it.

    In LongCat-Flash some experts have no weights, and the tensors differ in how many they are of.
    """
    shapes: dict[str, list[str]] = {}
    for name, weight in model.named_parameters():
        found = _CALLED_EXPERTS.match(name)
        if found and "shared" not in name:
            shapes.setdefault(found[0], []).append(f"{name} {list(weight.shape)}")
    for part, held in shapes.items():
        inside = f"{part}."
        if any(f"{name}.".startswith(inside) or inside.startswith(f"{name}.") for name in holders):
            continue
        listed = ", ".join(each.removeprefix(inside) for each in held[:_LISTED])
        raise UnsupportedModel(
            f"{part} holds experts that cannot be counted: the configuration names no number of "
            f"them that fits all of {listed}", place=place,
            way_out="this family is not supported; nothing was measured or changed",
        )  # fmt: skip


def _expert_counts(model: Any) -> frozenset[int]:
    """How many routed experts the configuration names, under whatever name; more than one."""
    config = model.config.get_text_config(decoder=True)
    parts = [config, getattr(config, "ffn_config", config)]
    found = {
        value for part in parts for name, value in part.to_dict().items()
        if "expert" in name and "shared" not in name and isinstance(value, int)
        and not isinstance(value, bool) and value > 1
    }  # fmt: skip
    return frozenset(found)


class _Choice(NamedTuple):
    """A top-k over a table [tokens, experts], and where it happened."""

    name: str
    module: nn.Module
    chosen: int


class _Watch:
    """What was seen while a few tokens ran: who chose, and what each holder was given."""

    def __init__(self, model: Any, holders: Mapping[str, tuple[nn.Module, int]]) -> None:
        self.model, self.holders = model, holders
        self.active: list[tuple[str, nn.Module]] = []
        self.softmaxes: set[str] = set()
        self.made: list[tuple[str, nn.Module, Tensor]] = []  # who gave out which numbers
        self.given: dict[str, Tensor | None] = {}
        self.chosen: dict[str, _Choice] = {}
        self._last: dict[int, _Choice] = {}  # by experts in the table

    def run(self) -> None:
        ids = torch.arange(1, _PROBE + 1, device=self.model.device)[None]
        ids = ids % int(self.model.config.get_text_config(decoder=True).vocab_size)
        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                stack.enter_context(self._hooked(name, module))
            with torch.inference_mode(), _Functions(self):
                self.model(input_ids=ids, use_cache=False)

    def top_k(self, table: Tensor, chosen: int) -> None:
        if self.active and table.ndim == 2:
            name, module = self.active[-1]
            self._last[int(table.shape[1])] = _Choice(name, module, chosen)

    def softmax(self) -> None:
        self.softmaxes |= {name for name, _ in self.active}

    @contextmanager
    def _hooked(self, name: str, module: nn.Module) -> Iterator[None]:
        # A list of experts is never called itself: the first of them is met instead.
        holder = name if name in self.holders else name.rpartition(".")[0]

        def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.active.append((name, module))
            if holder in self.holders and holder not in self.given:
                self.given[holder] = _numbers((*inputs, *named.values()))
                choice = self._last.get(self.holders[holder][1])
                if choice is not None:
                    self.chosen[holder] = choice

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            self.active.pop()
            numbers = _numbers(output if isinstance(output, tuple | list) else (output,))
            if numbers is not None:
                self.made.append((name, module, numbers))

        handles = (
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Functions(TorchFunctionMode):
    """Tells a watch of top-k and softmax while the model runs."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in TOP_K and args:
            self.watch.top_k(args[0], int(result[1].shape[-1]))
        elif func in _SOFTMAX:
            self.watch.softmax()
        return result


def _numbers(values: tuple[Any, ...] | list[Any]) -> Tensor | None:
    """The chosen experts' numbers, an integer tensor [tokens, chosen], if there is one."""
    for value in values:
        whole = isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32)
        if whole and value.ndim == 2 and value.shape[0] == _PROBE:
            found: Tensor = value
            return found
    return None


def _router(name: str, held: tuple[nn.Module, int], seen: _Watch, place: str) -> Router:
    found = _chooser(name, held[0], seen)
    number = _NUMBER.search(f".{name}.")
    if number is None or found is None:
        raise UnsupportedModel(
            f"no router can be matched with the experts of {name}", place=place,
            way_out="this family is not supported; nothing was measured or changed",
        )  # fmt: skip
    choice, form = found
    softmax = choice.name in seen.softmaxes
    return Router(
        int(number[1]), choice.name, choice.module, name, *held, choice.chosen, softmax, form
    )


def _chooser(name: str, experts: nn.Module, seen: _Watch) -> tuple[_Choice, Form] | None:
    """The module that chooses for a holder of experts, and how its choice shows itself."""
    given = seen.given.get(name)
    for maker, module, numbers in seen.made:
        if numbers is given:
            return _Choice(maker, module, int(numbers.shape[1])), Form.GIVEN
    choice = seen.chosen.get(name)
    if given is not None:
        return None if choice is None else (choice, Form.GIVEN)
    if isinstance(experts, nn.ModuleList):
        block = name.rpartition(".")[0]
        made = [each for each in seen.made if each[0].startswith(f"{block}.")]
        return (_Choice(*made[-1][:2], int(made[-1][2].shape[1])), Form.MADE) if made else None
    return None if choice is None else (choice, Form.DENSE)


def _check(routers: list[Router], expected: int, place: str) -> None:
    if len(routers) != expected:
        raise UnsupportedModel(
            f"{len(routers)} layers with routed experts were found and the configuration implies "
            f"{expected}", place=place, way_out="this family is not supported",
        )  # fmt: skip
    if len({(each.expert_count, each.chosen) for each in routers}) > 1:
        raise UnsupportedModel(
            "its layers differ in how many experts they have or choose", place=place,
            way_out="only models with equal layers are supported",
        )  # fmt: skip
    if len({each.layer for each in routers}) < len(routers):
        raise UnsupportedModel(
            "a decoder layer holds more than one group of routed experts", place=place,
            way_out="only models with one group in each layer are supported",
        )  # fmt: skip


def _implied_layers(model: Any) -> int | None:
    """How many layers with routed experts the configuration implies; None if it does not say."""
    config = model.config.get_text_config(decoder=True)
    layers = int(config.num_hidden_layers)
    kinds = getattr(config, "mlp_layer_types", None)
    if isinstance(kinds, list | tuple):
        return len([kind for kind in kinds if kind != "dense"])
    if hasattr(config, "first_k_dense_replace"):
        return layers - int(config.first_k_dense_replace or 0)
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 0:
        only = set(getattr(config, "mlp_only_layers", None) or ())
        return sum((at + 1) % step == 0 and at not in only for at in range(layers))
    return None
