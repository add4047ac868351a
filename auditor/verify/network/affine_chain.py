"""Growing a chain of layers operation by operation, folding only what stays exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.verify.network.chain import AffineLayer, Float64
from auditor.verify.network.symbolic import Symbolic

MAX_MATRIX = 60_000_000
_MAX_EXACT_TERMS = 1_000_000


@dataclass(frozen=True)
class Chain(Symbolic):
    """A tensor of a model: the layers that lead to it, and its shape."""

    layers: tuple[AffineLayer, ...]
    shape: tuple[int, ...]

    def reshaped(self, shape: tuple[int, ...]) -> Chain:
        """The same elements in the same order under another shape."""
        return replace(self, shape=shape)

    def affine(self, weight: Float64, bias: Float64, shape: tuple[int, ...], name: str) -> Chain:
        """This tensor after an affine map of its flat elements."""
        layer = AffineLayer(weight, bias, relu=False, name=name)
        return Chain((*self.layers[:-1], *_joined(self.layers[-1:], layer)), shape)

    def plus(self, bias: Float64, name: str) -> Chain:
        """This tensor plus a constant, flat and of its own size."""
        if not bias.any():
            return self
        if self.layers and not self.layers[-1].relu:
            last = self.layers[-1]
            total = exact_sum(last.bias, bias)
            if total is not None:
                # A product and then one bias is one sum; a second bias is rounded apart.
                merged = replace(last, bias=total, joined=last.joined or bool(last.bias.any()))
                return replace(self, layers=(*self.layers[:-1], merged))
        return self.affine(self._identity(name), bias, self.shape, name)

    def scaled(self, factors: Float64, name: str) -> Chain:
        """This tensor times a constant, element by element."""
        weight = self._identity(name)
        np.fill_diagonal(weight, factors)
        return self.affine(weight, np.zeros(self.size), self.shape, name)

    def permuted(self, order: NDArray[np.int64], shape: tuple[int, ...], name: str) -> Chain:
        """The flat elements in another order."""
        if np.array_equal(order, np.arange(self.size)):
            return self.reshaped(shape)
        weight = self._identity(name)[order]
        return self.affine(weight, np.zeros(self.size), shape, name)

    def rectified(self, name: str) -> Chain:
        """This tensor after a ReLU."""
        if not self.layers:
            layer = AffineLayer(self._identity(name), np.zeros(self.size), relu=True, name=name)
            return replace(self, layers=(layer,))
        last = replace(self.layers[-1], relu=True, name=name)
        return replace(self, layers=(*self.layers[:-1], last))

    def _identity(self, name: str) -> Float64:
        check_matrix_size(self.size, self.size, name)
        return np.eye(self.size)


def check_matrix_size(rows: int, columns: int, name: str) -> None:
    """Refuse a dense matrix that would not fit, before it is allocated."""
    if rows * columns > MAX_MATRIX:
        raise UnsupportedModel(
            f"a dense {rows} x {columns} matrix would be needed",
            place=f"node '{name}'",
            way_out="use a model with smaller layers",
        )


def _joined(last: tuple[AffineLayer, ...], layer: AffineLayer) -> tuple[AffineLayer, ...]:
    """The last layer and a new one as one layer where that is exact, else both."""
    if not last or last[0].relu:
        return (*last, layer)
    (first,) = last
    # Selecting or negating columns rounds nothing.
    selects = (np.count_nonzero(first.weight, axis=0) <= 1).all() and np.isin(
        first.weight, (-1.0, 0.0, 1.0)
    ).all()
    if not selects:
        return (first, layer)
    bias = _exact_image(layer.weight, first.bias, layer.bias)
    if bias is None:
        return (first, layer)
    joined = first.joined or bool(first.bias.any())
    return (replace(layer, weight=layer.weight @ first.weight, bias=bias, joined=joined),)


def _exact_image(weight: Float64, inner: Float64, bias: Float64) -> Float64 | None:
    """`weight @ inner + bias` if every entry is exactly a float64, else None."""
    used = np.flatnonzero(inner)
    if used.size == 0:
        return bias
    if used.size * len(bias) > _MAX_EXACT_TERMS:
        return None
    terms = [Fraction(float(value)) for value in inner[used]]
    image = np.empty_like(bias)
    for row in range(len(bias)):
        factors = weight[row, used].tolist()
        total = Fraction(float(bias[row])) + sum(
            (Fraction(f) * t for f, t in zip(factors, terms, strict=True) if f), Fraction(0)
        )
        if not _is_float(total):
            return None
        image[row] = float(total)
    return image


def exact_sum(first: Float64, second: Float64) -> Float64 | None:
    """The elementwise sum if it needs no rounding, else None (Knuth's two-sum)."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = first + second
        shadow = total - first
        error = (first - (total - shadow)) + (second - shadow)
    return total if np.isfinite(total).all() and not error.any() else None


def exact_product(first: Float64, second: Float64) -> Float64 | None:
    """The elementwise product if it needs no rounding, else None."""
    first, second = np.broadcast_arrays(first, second)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = first * second
        short = np.array_equal(first, first.astype(np.float32)) and np.array_equal(
            second, second.astype(np.float32)
        )
    if not np.isfinite(product).all():
        return None
    if short:
        return product  # 24 + 24 bits fit into 53, and the exponent range is ample
    if product.size > _MAX_EXACT_TERMS:
        return None
    triples = zip(first.flat, second.flat, product.flat, strict=True)
    exact = all(
        Fraction(float(a)) * Fraction(float(b)) == Fraction(float(p)) for a, b, p in triples
    )
    return product if exact else None


def _is_float(value: Fraction) -> bool:
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False
