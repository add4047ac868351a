"""Searching multipliers that refute unsafe rows: slopes, phase multipliers, row weights.

Plain floats, batched over (node, case) pairs; nothing here has to be right, because what
is found is checked in exact integers before it is written. Joint Polyak steps as in the
search itself: the supergradient is the value of each neuron and row at the bound's
minimiser, pushed through the linear pieces in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.verify.certificate.forms import BOX_BITS, LIMB, Float64, Int64, Relaxation
from auditor.verify.certificate.statement import Region

WEIGHT_UNITS = 60_000
OVERSHOOT = 0.05


@dataclass
class Multipliers:
    """What refutes pairs, first axis pairs.

    Attributes:
        weights: Row weights over all rows, [pairs, rows], on the simplex of their case.
        slopes: Lower slopes per hidden layer, [pairs, neurons].
        pushes: Phase multipliers per hidden layer, same shape.
        found: Float lower bounds, [pairs].
    """

    weights: Float64
    slopes: list[Float64]
    pushes: list[Float64]
    found: Float64

    def take(self, better: np.ndarray, other: Multipliers) -> None:
        """Replace some pairs by another's, in place."""
        self.found[better] = other.found[better]
        self.weights[better] = other.weights[better]
        for mine, theirs in ((self.slopes, other.slopes), (self.pushes, other.pushes)):
            for own, new in zip(mine, theirs, strict=True):
                own[better] = new[better]

    def put(self, index: np.ndarray, other: Multipliers) -> None:
        """Replace the pairs at these places by another's, in order."""
        self.found[index], self.weights[index] = other.found, other.weights
        for mine, theirs in ((self.slopes, other.slopes), (self.pushes, other.pushes)):
            for own, new in zip(mine, theirs, strict=True):
                own[index] = new

    def pick(self, index: np.ndarray) -> Multipliers:
        """Some of the pairs, copied."""
        return Multipliers(
            self.weights[index], [s[index] for s in self.slopes], [p[index] for p in self.pushes],
            self.found[index],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Pass:
    """One backward and forward pass: bounds, coefficients at layers, values of neurons."""

    found: Float64
    at_layers: list[Float64]
    values: list[Float64]
    pieces: list[tuple[Float64, Float64]]


class MultiplierSearch:
    """Searches over one region."""

    def __init__(self, region: Region) -> None:
        self.weights, self.biases = [], []
        for layer in region.layers:
            width = layer.digits.shape[1] // 2
            matrix = layer.digits[:, :width] + layer.digits[:, width:] * 2.0**-LIMB
            matrix = matrix * 2.0 ** (layer.scale - LIMB)
            self.weights.append(np.ascontiguousarray(matrix[:, :-1]))
            self.biases.append(matrix[:, -1].copy())
        self.starts = np.array(region.starts)

    def search(
        self,
        known: list[Relaxation],
        box: tuple[Float64, Float64],
        nodes: Int64,
        cases: Int64,
        steps: int,
        *,
        push: bool = False,
    ) -> Multipliers:
        """The best multipliers found for each pair.

        Args:
            known: Relaxations per hidden layer, [nodes, neurons].
            box: Integer ends of each node's box, [nodes, inputs].
            nodes: The node of each pair.
            cases: The case of each pair.
            steps: Polyak steps after the first bounds.
            push: Whether phase multipliers are searched too.
        """
        known = [each.pick(nodes) for each in known]
        ends = box[0][nodes] * 2.0**-BOX_BITS, box[1][nodes] * 2.0**-BOX_BITS
        allowed = np.zeros((len(nodes), int(self.starts[-1])), dtype=bool)
        for pair, case in enumerate(cases):
            allowed[pair, self.starts[case] : self.starts[case + 1]] = True
        best = self._best_rows(known, ends, allowed)
        far = np.abs(np.nan_to_num(best.found))
        active = np.flatnonzero(~(best.found > 0))
        current = best.pick(active)
        for step in range(steps):
            if not len(active):
                break
            part = [each.pick(active) for each in known]
            box_part = ends[0][active], ends[1][active]
            done = self._pass(part, box_part, current)
            current.found = done.found
            better = done.found > best.found[active]
            merged = best.pick(active)
            merged.take(better, current)
            best.put(active, merged)
            if step == steps - 1:
                break
            self._step(part, current, done, allowed[active], push, far[active])
            still = ~(done.found > 0)
            active, current = active[still], current.pick(still)
        return best

    def phase_scores(
        self, known: list[Relaxation], box: tuple[Float64, Float64], nodes: Int64,
        found: Multipliers,
    ) -> Float64:  # fmt: skip
        """What fixing each neuron's phase promises, [pairs, neurons]; -inf where known.

        With coefficient c on the activation and its linear piece `d z + e` at the bound's
        minimiser, the inactive phase gains `-c (d z + e)`, the active `c ((1 - d) z - e)`.
        """
        known = [each.pick(nodes) for each in known]
        ends = box[0][nodes] * 2.0**-BOX_BITS, box[1][nodes] * 2.0**-BOX_BITS
        done = self._pass(known, ends, found)
        scores = [np.zeros((len(nodes), 0))]
        for k, each in enumerate(known):
            (slope, offset), c, z = done.pieces[k], done.at_layers[k], done.values[k]
            off, on = -c * (slope * z + offset), c * ((1.0 - slope) * z - offset)
            score = np.maximum(np.minimum(off, on), 0.0) + 0.05 * np.maximum(off, on)
            score = np.nan_to_num(score) + 1e-9 * each.reach
            scores.append(np.where(each.phase == 0, score, -np.inf))
        return np.concatenate(scores, axis=1)

    def _best_rows(
        self, known: list[Relaxation], ends: tuple[Float64, Float64], allowed: np.ndarray
    ) -> Multipliers:
        """The best single row of each pair under default slopes."""
        pair, row = np.nonzero(allowed)
        weights = np.zeros((len(pair), allowed.shape[1]))
        weights[np.arange(len(pair)), row] = 1.0
        part = [each.pick(pair) for each in known]
        slopes = [each.below.astype(np.float64) for each in part]
        trial = Multipliers(weights, slopes, [np.zeros_like(s) for s in slopes], np.zeros(0))
        found = self._backward(part, (ends[0][pair], ends[1][pair]), trial)[0]
        table = np.full(allowed.shape, -np.inf)
        table[pair, row] = found
        choice = table.argmax(axis=1)
        start = np.zeros(allowed.shape)
        start[np.arange(len(table)), choice] = allowed[np.arange(len(table)), choice]
        best = table.max(axis=1)
        slopes = [each.below.astype(np.float64) for each in known]
        return Multipliers(start, slopes, [np.zeros_like(s) for s in slopes], best)

    def _backward(
        self, known: list[Relaxation], ends: tuple[Float64, Float64], trial: Multipliers
    ) -> tuple[Float64, Float64, list[Float64], list[tuple[Float64, Float64]]]:
        """Bounds, minimisers, coefficients per hidden layer, pieces (slope, offset)."""
        constant = trial.weights @ self.biases[-1]
        forms = trial.weights @ self.weights[-1]
        at_layers, pieces = [], []
        for k in range(len(known) - 1, -1, -1):
            each = known[k]
            at_layers.append(forms)
            offset = np.where(forms < 0, each.above * each.minus_low, 0.0)
            slope = np.where(forms < 0, each.above, trial.slopes[k])
            pieces.append((slope, offset))
            constant = constant + (forms * offset).sum(axis=1)
            forms = forms * slope - trial.pushes[k] * each.phase
            constant = constant + forms @ self.biases[k]
            forms = forms @ self.weights[k]
        found = constant + np.minimum(forms * ends[0], forms * ends[1]).sum(axis=1)
        point = np.where(forms > 0, ends[0], ends[1])
        return found, point, at_layers[::-1], pieces[::-1]

    def _pass(
        self, known: list[Relaxation], ends: tuple[Float64, Float64], trial: Multipliers
    ) -> _Pass:
        found, hidden, at_layers, pieces = self._backward(known, ends, trial)
        values = []
        for weight, bias, (slope, offset) in zip(
            self.weights[:-1], self.biases[:-1], pieces, strict=True
        ):
            value = hidden @ weight.T + bias
            values.append(value)
            hidden = slope * value + offset
        values.append(hidden @ self.weights[-1].T + self.biases[-1])
        return _Pass(found, at_layers, values, pieces)

    def _step(
        self, known: list[Relaxation], current: Multipliers, done: _Pass,
        allowed: np.ndarray, push: bool, far: Float64,
    ) -> None:  # fmt: skip
        """One Polyak step in place."""
        norm = np.zeros(len(done.found))
        slope_gains, push_gains = [], []
        for k, each in enumerate(known):
            slope = current.slopes[k]
            gain = np.maximum(done.at_layers[k], 0.0) * done.values[k]
            blocked = ((gain > 0) & (slope >= 1.0)) | ((gain < 0) & (slope <= 0.0))
            gain[blocked | (each.phase != 0)] = 0.0
            slope_gains.append(gain)
            norm += (gain * gain).sum(axis=1)
            if push:
                gain = -each.phase * done.values[k]
                gain[(gain < 0) & (current.pushes[k] <= 0)] = 0.0
                push_gains.append(gain)
                norm += (gain * gain).sum(axis=1)
        rows = done.values[-1]
        mixture = (current.weights * rows).sum(axis=1, keepdims=True)
        in_play = allowed & ((current.weights > 0) | (rows > mixture))
        mean = (rows * in_play).sum(axis=1, keepdims=True) / np.maximum(
            1, in_play.sum(axis=1, keepdims=True)
        )
        row_gain = (rows - mean) * in_play
        norm += (row_gain * row_gain).sum(axis=1)
        # Aiming a little above 0 in absolute terms, or the last steps only creep towards it.
        gap = 1.2 * np.abs(done.found) + OVERSHOOT * far
        length = np.where(norm > 0, gap / np.maximum(norm, 1e-300), 0.0)
        length = np.nan_to_num(length)[:, None]
        for k, gain in enumerate(slope_gains):
            current.slopes[k] = np.clip(current.slopes[k] + length * gain, 0.0, 1.0)
        for k, gain in enumerate(push_gains):
            current.pushes[k] = np.maximum(current.pushes[k] + length * gain, 0.0)
        current.weights = _to_simplex(current.weights + length * row_gain, allowed)


def _to_simplex(weights: Float64, allowed: np.ndarray) -> Float64:
    """Nearest point of the probability simplex over the allowed entries of each row."""
    masked = np.where(allowed, weights, -np.inf)
    ordered = -np.sort(-masked, axis=1)
    with np.errstate(invalid="ignore"):
        sums = np.cumsum(np.where(np.isfinite(ordered), ordered, 0.0), axis=1)
        thresholds = (sums - 1.0) / np.arange(1, weights.shape[1] + 1)
        used = np.maximum(1, (ordered > thresholds).sum(axis=1))
    chosen = thresholds[np.arange(len(weights)), used - 1]
    return np.maximum(np.where(allowed, weights - chosen[:, None], 0.0), 0.0)
