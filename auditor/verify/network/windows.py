"""Where the windows of convolutions and poolings lie: strides, pads, dilations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.verify.network.operators import NodeView


@dataclass(frozen=True)
class Windows:
    """Windows over one or two spatial axes, written as two: height and width.

    Attributes:
        extent: Size of the window.
        strides: Steps between windows.
        dilations: Steps inside a window.
        pads: Top, left, bottom, right.
        spatial: How many spatial axes the tensor really has.
    """

    extent: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    spatial: int

    def counts(self, sizes: tuple[int, int], *, ceil: bool = False) -> tuple[int, int]:
        """How many windows fit along height and width."""
        counts = []
        for axis in range(2):
            reach = self.dilations[axis] * (self.extent[axis] - 1) + 1
            free = sizes[axis] + self.pads[axis] + self.pads[axis + 2] - reach
            steps = -(-free // self.strides[axis]) if ceil else free // self.strides[axis]
            if ceil and steps * self.strides[axis] >= sizes[axis] + self.pads[axis]:
                steps -= 1  # a window that starts in the padding at the end does not count
            counts.append(steps + 1)
        return counts[0], counts[1]


def windows_of(view: NodeView, shape: Sequence[int], extent: Sequence[int]) -> Windows:
    """The windows of a node over a tensor [1, channels, ...].

    Args:
        view: The node.
        shape: Shape of the tensor, three or four sizes.
        extent: Size of the window along each spatial axis.
    """
    spatial = len(shape) - 2
    if spatial not in (1, 2) or len(extent) != spatial:
        raise view.refusal(f"a window {list(extent)} over a tensor of shape {list(shape)}")
    if shape[0] != 1:
        raise view.refusal(f"{shape[0]} samples at once")
    strides = _integers(view, "strides", [1] * spatial)
    dilations = _integers(view, "dilations", [1] * spatial)
    pads = _integers(view, "pads", [0] * 2 * spatial)
    automatic = view.attributes.get("auto_pad", b"NOTSET").decode()
    if automatic == "VALID":
        pads = [0] * 2 * spatial
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(shape[2:], extent, strides, dilations, upper=automatic == "SAME_UPPER")
    elif automatic != "NOTSET":
        raise view.refusal(f"auto_pad {automatic}")
    if min(*strides, *dilations, *extent) < 1 or min(pads) < 0:
        raise view.refusal("strides, dilations or pads out of range")
    if spatial == 1:
        return Windows(
            (1, extent[0]), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]), 1
        )
    (height, width), (down, right) = extent, strides
    return Windows(
        (height, width),
        (down, right),
        (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        2,
    )


def _integers(view: NodeView, name: str, default: list[int]) -> list[int]:
    values = [int(value) for value in view.attributes.get(name, default)]
    if len(values) != len(default):
        raise view.refusal(f"{name} {values}: expected {len(default)} numbers")
    return values


def _same_pads(
    sizes: Sequence[int],
    extent: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    upper: bool,
) -> list[int]:
    """Pads for which there are ceil(size / stride) windows; the odd one at the end."""
    before, after = [], []
    for size, reach, stride, dilation in zip(sizes, extent, strides, dilations, strict=True):
        count = -(-size // stride)
        total = max(0, (count - 1) * stride + dilation * (reach - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return [*before, *after]
