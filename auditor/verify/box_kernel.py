"""The compiled kernel of the input-splitting search: one box at a time, rigorous.

Backward linear bounds (Zhang et al. 2018, CROWN; Singh et al. 2019, DeepPoly) of every
unstable neuron, then of the unsafe rows, with slopes and row multipliers improved
jointly by Polyak steps; the box is contracted by the rows' linear forms and split along
the input that feeds most instability.

Soundness over the reals. Each form `lam . h + cst` is *defined* by its floats; passing
it through a layer replaces it by a form that is smaller up to rounding. All rounding of
one pass is bounded at once: with `magnitude[k] >= |W_k| |h| + |b_k|` over the whole box,
every product or sum of the pass appears in `mag = sum |lam_k| . magnitude[k] + ...`, and
passes at most N roundings, so the true bound is at least `cst - gamma_N * mag`, for any
order of summation and with fused multiply-adds (Higham 2002, lemma 3.1). Slopes are
floats in [0, 1]; intercepts are rounded away from zero. Underflow is covered by `floor`.
A NaN makes every comparison false, so nothing is refuted by it.

One long module on purpose: numba's cache of a compiled function is renewed when the file of
that function changes, not when a file it calls into does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from auditor.compilation import compiled

# Reassociation and contraction are covered by the error term; nothing else is allowed.
_FAST = ("contract", "reassoc", "nsz")

FINISHED, PAUSED, CANDIDATE, LEFT_OVER = 0, 1, 2, 3


class KernelNetwork(NamedTuple):
    """The network and rows as padded arrays; P is the padded width, K the layers.

    Fields: weight [K, P, P], bias [K, P], magnitude [K, P], widths [K + 1] (inputs
    first), columns [K] (padded inputs of each layer), relu [K], phase [K, P] (1 active, -1
    inactive, 0 free: what a pattern asks), rows [R, P], bounds [R], row_magnitude [R],
    starts [cases + 1], factor (gamma_N), floor (underflow), and recorded: whether only
    numbers that a certificate can hold may be used.
    """

    weight: Any
    bias: Any
    magnitude: Any
    widths: Any
    columns: Any
    relu: Any
    phase: Any
    rows: Any
    bounds: Any
    row_magnitude: Any
    starts: Any
    factor: float
    floor: float
    recorded: bool


class KernelStack(NamedTuple):
    """Boxes that wait, S slots.

    Fields: box_lower and box_upper [S, n]; lower and upper [S, K, P] (bounds of all
    neurons, inherited); open_case [S, cases]; depth [S]; share [S]; tried [S]: how often
    a point of the box was already offered as a candidate.
    """

    box_lower: Any
    box_upper: Any
    lower: Any
    upper: Any
    open_case: Any
    depth: Any
    share: Any
    tried: Any


class KernelWork(NamedTuple):
    """Scratch arrays of one box.

    Fields: alpha, slope, intercept, trial_alpha, lam_at, post [K, P] (relaxation in use,
    coefficients and values seen at each layer); live [K, P] with live_count [K]; lam,
    product, coefficient [P]; spread, blame, point, base_width and box ends [n]; forms
    [R + cases + 1, n] with constants, row_values [R + cases + 1] (one mixed form per case,
    one for a neuron); nu [R]; best_alpha and best_nu: what gave the mixed form, kept when
    recorded.
    """

    alpha: Any
    slope: Any
    intercept: Any
    trial_alpha: Any
    best_alpha: Any
    lam_at: Any
    post: Any
    live: Any
    live_count: Any
    lam: Any
    product: Any
    coefficient: Any
    spread: Any
    blame: Any
    forms: Any
    constants: Any
    nu: Any
    best_nu: Any
    row_values: Any
    point: Any
    box_lower: Any
    box_upper: Any
    hull_lower: Any
    hull_upper: Any
    base_width: Any


@compiled(fastmath=_FAST)
def _combine(weight, live, coefficient, count, columns, out):  # type: ignore[no-untyped-def]
    """`out[:columns] = sum_q coefficient[q] * weight[live[q], :columns]`, four rows at once."""
    for j in range(columns):
        out[j] = 0.0
    q = 0
    while q + 4 <= count:
        c0, c1 = coefficient[q], coefficient[q + 1]
        c2, c3 = coefficient[q + 2], coefficient[q + 3]
        r0, r1 = weight[live[q]], weight[live[q + 1]]
        r2, r3 = weight[live[q + 2]], weight[live[q + 3]]
        for j in range(columns):
            out[j] += (c0 * r0[j] + c1 * r1[j]) + (c2 * r2[j] + c3 * r3[j])
        q += 4
    while q < count:
        c0 = coefficient[q]
        r0 = weight[live[q]]
        for j in range(columns):
            out[j] += c0 * r0[j]
        q += 1


@compiled(fastmath=_FAST)
def _dot(first, second, count):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(count):
        total += first[j] * second[j]
    return total


@compiled()
def _backward(net, work, alpha, first, record):  # type: ignore[no-untyped-def]
    """Pass the form in `work.lam` over h of layer `first` down to the input.

    Returns (constant, magnitude); the input coefficients are left in `work.lam`. With
    `record`, coefficients at each layer are kept in `work.lam_at`.
    """
    lam, product, coefficient = work.lam, work.product, work.coefficient
    constant = 0.0
    magnitude = 0.0
    for k in range(first, -1, -1):
        count = work.live_count[k]
        for q in range(count):
            j = work.live[k, q]
            value = lam[j]
            if record:
                work.lam_at[k, j] = value
            if value >= 0.0:
                scaled = value * alpha[k, j]
            else:
                scaled = value * work.slope[k, j]
                part = value * work.intercept[k, j]
                constant += part
                magnitude -= part
            coefficient[q] = scaled
            constant += scaled * net.bias[k, j]
            magnitude += abs(value) * net.magnitude[k, j]
        _combine(net.weight[k], work.live[k], coefficient, count, net.columns[k], product)
        lam, product = product, lam
        # The caller reads the result in `work.lam`, whatever the number of swaps.
    if (first + 1) % 2 == 1:
        for j in range(net.widths[0]):
            work.lam[j] = lam[j]
    return constant, magnitude


@compiled()
def _over_box(lam, box_lower, box_upper, count):  # type: ignore[no-untyped-def]
    """Minimum of `lam . x` over the box, and the sum of absolute terms."""
    value = 0.0
    magnitude = 0.0
    for j in range(count):
        c = lam[j]
        low, high = c * box_lower[j], c * box_upper[j]
        value += low if c > 0.0 else high
        magnitude += max(abs(low), abs(high))
    return value, magnitude


@compiled()
def _relax(lower, upper, k, work, net):  # type: ignore[no-untyped-def]
    """Choose the linear relaxation of each neuron of layer k; False if none can exist."""
    count = 0
    for j in range(net.widths[k + 1]):
        low, high = lower[k, j], upper[k, j]
        if low > high:
            return False
        if not net.relu[k] or low >= 0.0:
            work.alpha[k, j] = 1.0
            work.slope[k, j] = 1.0
            work.intercept[k, j] = 0.0
        elif high <= 0.0:
            continue
        else:
            slope = min(1.0, max(0.0, high / (high - low)))
            reach = max(high, -low)
            # Above max(z, 0) on [low, high] at both ends, with slack for every rounding.
            intercept = max(-slope * low, (1.0 - slope) * high)
            work.intercept[k, j] = intercept + 8.0 * 1.1102230246251565e-16 * reach + 1e-300
            work.slope[k, j] = slope
            work.alpha[k, j] = 1.0 if high > -low else 0.0
        work.live[k, count] = j
        count += 1
    work.live_count[k] = count
    return True


@compiled()
def contract(work, form, box_lower, box_upper):  # type: ignore[no-untyped-def]
    """Shrink a box to where `forms[form] . x + constants[form] <= 0` can hold.

    Returns False when no point is left. The form's constant already carries the error
    of every sum over the box; the division is rounded outward here.
    """
    inputs = box_lower.size
    total = work.constants[form]
    for i in range(inputs):
        c = work.forms[form, i]
        total += c * box_lower[i] if c > 0.0 else c * box_upper[i]
    if total > 0.0:
        return False
    if not total > -np.inf:
        return True
    for i in range(inputs):
        c = work.forms[form, i]
        if c == 0.0 or not box_lower[i] < box_upper[i]:
            continue
        own = c * box_lower[i] if c > 0.0 else c * box_upper[i]
        rest = total - own
        limit = -rest / c
        slack = 8.0 * 1.1102230246251565e-16 * (abs(limit)) + 1e-300
        if c > 0.0:
            limit += slack
            if limit < box_upper[i]:
                if limit < box_lower[i]:
                    return False
                box_upper[i] = limit
        else:
            limit -= slack
            if limit > box_lower[i]:
                if limit > box_upper[i]:
                    return False
                box_lower[i] = limit
    return True


@compiled()
def _is_settled(net, k, j, lower, upper):  # type: ignore[no-untyped-def]
    """Whether a neuron needs no bounds: no ReLU, or its phase proved and not only asked for."""
    if not net.relu[k]:
        return True
    fixed = net.phase[k, j]
    if fixed > 0:
        return lower[k, j] > 0.0
    if fixed < 0:
        return upper[k, j] < 0.0
    return lower[k, j] >= 0.0 or upper[k, j] <= 0.0


@compiled()
def bound_neurons(net, work, lower, upper, box_lower, box_upper):  # type: ignore[no-untyped-def]
    """Tighten bounds of all unstable neurons, layer by layer, and collect blame.

    A neuron whose phase a pattern asks for also shrinks the box to where it can have it.
    Returns the number of unstable neurons, or -1 if no point of interest is left.
    """
    inputs = net.widths[0]
    own_form = net.bounds.size + net.starts.size - 1
    for i in range(inputs):
        work.blame[i] = 0.0
    unstable = 0
    for k in range(net.widths.size - 1):
        columns = net.columns[k]
        for j in range(net.widths[k + 1]):
            if _is_settled(net, k, j, lower, upper):
                continue
            fixed = net.phase[k, j]
            low, high = -np.inf, np.inf
            for i in range(inputs):
                work.spread[i] = 0.0
            for side in range(2):
                sign = 1.0 if side == 0 else -1.0
                for i in range(columns):
                    work.lam[i] = sign * net.weight[k, j, i]
                constant, magnitude = _backward(net, work, work.alpha, k - 1, False)
                value, size = _over_box(work.lam, box_lower, box_upper, inputs)
                bias = sign * net.bias[k, j]
                # Whatever the sum itself loses counts too: a neuron that is off is off as executed.
                magnitude += size + abs(bias) + net.magnitude[k, j]
                bound = (constant + bias) + value - net.factor * magnitude - net.floor
                if net.recorded:
                    # Some float32 number below.
                    bound = float(np.float32(bound - 1.2e-7 * abs(bound) - 1e-37))
                if side == 0:
                    low = bound
                else:
                    high = -bound
                for i in range(inputs):
                    work.spread[i] += abs(work.lam[i]) * (box_upper[i] - box_lower[i])
                if sign * fixed < 0.0:
                    # Where the pattern is followed, this form of `sign * z` is at most 0.
                    for i in range(inputs):
                        work.forms[own_form, i] = work.lam[i]
                    work.constants[own_form] = (
                        (constant + bias) - 2.0 * net.factor * magnitude - net.floor
                    )
            if low > lower[k, j]:
                lower[k, j] = low
            if high < upper[k, j]:
                upper[k, j] = high
            if fixed != 0 and not contract(work, own_form, box_lower, box_upper):
                return -1
            if fixed == 0:
                low, high = lower[k, j], upper[k, j]
            if low < 0.0 < high:
                unstable += fixed == 0
                total = 0.0
                for i in range(inputs):
                    total += work.spread[i]
                if total > 0.0:
                    weight = min(-low, high) / total
                    for i in range(inputs):
                        work.blame[i] += weight * work.spread[i]
        if not _relax(lower, upper, k, work, net):
            return -1
    return unstable


@compiled()
def _row_bound(net, work, row, box_lower, box_upper):  # type: ignore[no-untyped-def]
    """Certified lower bound of one row's excess; its form is kept for contraction."""
    inputs = net.widths[0]
    last = net.widths.size - 2
    for i in range(net.widths[last + 1]):
        work.lam[i] = net.rows[row, i]
    constant, magnitude = _backward(net, work, work.alpha, last, False)
    value, size = _over_box(work.lam, box_lower, box_upper, inputs)
    magnitude += size + net.row_magnitude[row]
    constant = (constant - net.bounds[row]) - net.factor * magnitude - net.floor
    for i in range(inputs):
        work.forms[row, i] = work.lam[i]
    work.constants[row] = constant
    return constant + value - net.factor * size


@compiled()
def _project_to_simplex(values, first, last):  # type: ignore[no-untyped-def]
    """Nearest point of the probability simplex, in place (Michelot 1986; needs no sort)."""
    threshold = -np.inf
    while True:
        total, count = -1.0, 0
        for i in range(first, last):
            if values[i] > threshold:
                total += values[i]
                count += 1
        # The threshold only rises, so this ends; a NaN ends it at once.
        if count == 0 or not total / count > threshold:
            break
        threshold = total / count
    for i in range(first, last):
        values[i] = max(0.0, values[i] - threshold)


@compiled()
def _push_point(net, work, alpha):  # type: ignore[no-untyped-def]
    """Values of all neurons at `work.point`, through the linear pieces just used.

    Pre-activations go to `work.post` of each layer; row values to `work.row_values`.
    """
    layers = net.widths.size - 1
    hidden, fresh = work.product, work.coefficient
    for i in range(net.widths[0]):
        hidden[i] = work.point[i]
    for i in range(net.widths[0], net.columns[0]):
        hidden[i] = 0.0
    for k in range(layers):
        for j in range(net.weight.shape[2]):
            fresh[j] = 0.0
        for q in range(work.live_count[k]):
            j = work.live[k, q]
            value = _dot(net.weight[k, j], hidden, net.columns[k]) + net.bias[k, j]
            work.post[k, j] = value
            if work.lam_at[k, j] >= 0.0:
                fresh[j] = alpha[k, j] * value
            else:
                fresh[j] = work.slope[k, j] * value + work.intercept[k, j]
        hidden, fresh = fresh, hidden
    for row in range(net.bounds.size):
        work.row_values[row] = _dot(net.rows[row], hidden, net.widths[layers]) - net.bounds[row]


@compiled()
def _mixed_bound(net, work, first, last, box_lower, box_upper, form):  # type: ignore[no-untyped-def]
    """Certified lower bound of the nu-mixture of a case's rows; keeps a better form."""
    inputs = net.widths[0]
    top = net.widths.size - 2
    for i in range(net.widths[top + 1]):
        work.lam[i] = 0.0
    constant = 0.0
    magnitude = 0.0
    for row in range(first, last):
        weight = work.nu[row]
        if weight > 0.0:
            for i in range(net.widths[top + 1]):
                work.lam[i] += weight * net.rows[row, i]
            constant -= weight * net.bounds[row]
            magnitude += weight * net.row_magnitude[row]
    below, size = _backward(net, work, work.trial_alpha, top, True)
    magnitude += size
    value, size = _over_box(work.lam, box_lower, box_upper, inputs)
    magnitude += size
    constant = (constant + below) - net.factor * magnitude - net.floor
    bound = constant + value - net.factor * size
    for i in range(inputs):
        work.point[i] = box_lower[i] if work.lam[i] > 0.0 else box_upper[i]
    if bound > work.constants[form]:
        # constants[form] holds the best bound so far until the form is finished.
        work.constants[form] = bound
        for i in range(inputs):
            work.forms[form, i] = work.lam[i]
        work.row_values[form] = constant
        if net.recorded:
            for row in range(first, last):
                work.best_nu[row] = work.nu[row]
            for k in range(net.widths.size - 1):
                for j in range(net.widths[k + 1]):
                    work.best_alpha[k, j] = work.trial_alpha[k, j]
    return bound


@compiled()
def _row_gradient(work, first, last):  # type: ignore[no-untyped-def]
    """Turn row values into a direction within the simplex; returns its squared length.

    Rows in play carry weight or lie above the current mixture; the others stay at 0.
    """
    mixture = 0.0
    for row in range(first, last):
        mixture += work.nu[row] * work.row_values[row]
    mean, count = 0.0, 0
    for row in range(first, last):
        if work.nu[row] > 0.0 or work.row_values[row] > mixture:
            mean += work.row_values[row]
            count += 1
    norm = 0.0
    for row in range(first, last):
        if work.nu[row] > 0.0 or work.row_values[row] > mixture:
            work.row_values[row] -= mean / count
            norm += work.row_values[row] ** 2
        else:
            work.row_values[row] = 0.0
    return norm


@compiled()
def _improve(net, work, case, lower, upper, box_lower, box_upper, steps):  # type: ignore[no-untyped-def]
    """Polyak steps on slopes and row multipliers together; True when refuted.

    The supergradient of the bound is the value of each neuron, and of each row, at the
    minimiser pushed through the linear pieces in use; the step aims slightly above 0.
    """
    first, last = net.starts[case], net.starts[case + 1]
    layers = net.widths.size - 1
    form = net.bounds.size + case
    work.constants[form] = -np.inf
    for k in range(layers):
        for q in range(work.live_count[k]):
            j = work.live[k, q]
            work.trial_alpha[k, j] = work.alpha[k, j]
    for step in range(steps):
        bound = _mixed_bound(net, work, first, last, box_lower, box_upper, form)
        if bound > 0.0:
            return True
        if not bound > -np.inf:
            break
        _push_point(net, work, work.trial_alpha)
        if step == steps - 1:
            break
        norm = _row_gradient(work, first, last)
        for k in range(layers):
            for q in range(work.live_count[k]):
                j = work.live[k, q]
                if not net.relu[k] or lower[k, j] >= 0.0:
                    continue
                slope, gain = work.trial_alpha[k, j], 0.0
                if work.lam_at[k, j] > 0.0:
                    gain = work.lam_at[k, j] * work.post[k, j]
                # A slope at its end that would leave [0, 1] takes no part in the step.
                if (gain > 0.0 and slope >= 1.0) or (gain < 0.0 and slope <= 0.0):
                    gain = 0.0
                work.post[k, j] = gain
                norm += gain * gain
        if not norm > 0.0:
            break
        length = 1.2 * abs(bound) / norm
        for row in range(first, last):
            work.nu[row] += length * work.row_values[row]
        _project_to_simplex(work.nu, first, last)
        for k in range(layers):
            for q in range(work.live_count[k]):
                j = work.live[k, q]
                if net.relu[k] and lower[k, j] < 0.0:
                    moved = work.trial_alpha[k, j] + length * work.post[k, j]
                    moved = min(1.0, max(0.0, moved))
                    if net.recorded:
                        moved = np.rint(255.0 * moved) / 255.0
                    work.trial_alpha[k, j] = moved
    return False


@compiled()
def _excess_at_point(net, work, case):  # type: ignore[no-untyped-def]
    """Largest row excess of the network itself at `work.point`, in plain floats."""
    layers = net.widths.size - 1
    hidden, fresh = work.product, work.coefficient
    for i in range(net.weight.shape[2]):
        hidden[i] = work.point[i] if i < net.widths[0] else 0.0
    for k in range(layers):
        for j in range(net.weight.shape[2]):
            fresh[j] = 0.0
        for q in range(work.live_count[k]):
            j = work.live[k, q]
            value = _dot(net.weight[k, j], hidden, net.columns[k]) + net.bias[k, j]
            fresh[j] = max(value, 0.0) if net.relu[k] else value
        hidden, fresh = fresh, hidden
    worst = -np.inf
    for row in range(net.starts[case], net.starts[case + 1]):
        value = _dot(net.rows[row], hidden, net.widths[layers]) - net.bounds[row]
        worst = max(worst, value)
    return worst


@compiled()
def examine_case(net, work, case, lower, upper, box_lower, box_upper, steps):  # type: ignore[no-untyped-def]
    """Try to refute one case on the box; what happened.

    Returns:
        1 refuted by the row with weight in `nu`, 4 by the best mixture; 0 open, 2 a
        candidate at `point`.
    """
    best, best_row = -np.inf, net.starts[case]
    for row in range(net.starts[case], net.starts[case + 1]):
        bound = _row_bound(net, work, row, box_lower, box_upper)
        if bound > 0.0:
            work.nu[row] = 1.0
            return 1
        work.nu[row] = 0.0
        if bound > best:
            best, best_row = bound, row
    for row in range(net.starts[case], net.starts[case + 1]):
        work.nu[row] = 1.0 if row == best_row else 0.0
    if _improve(net, work, case, lower, upper, box_lower, box_upper, steps):
        return 4
    form = net.bounds.size + case
    if work.constants[form] > -np.inf:
        work.constants[form] = work.row_values[form]
    return 2 if _excess_at_point(net, work, case) <= 0.0 else 0


@compiled()
def _contract_case(net, work, case):  # type: ignore[no-untyped-def]
    """Contract the box in `work` by every form of a case; False when nothing is left."""
    for _ in range(2):
        for row in range(net.starts[case], net.starts[case + 1]):
            if not contract(work, row, work.box_lower, work.box_upper):
                return False
        form = net.bounds.size + case
        if not contract(work, form, work.box_lower, work.box_upper):
            return False
    return True


@compiled()
def _examine_box(net, work, lower, upper, open_case, box_lower, box_upper, steps, offer):  # type: ignore[no-untyped-def]
    """Bound, refute, contract one box until it stops shrinking.

    Returns (state, unstable, boxes): state 1 refuted, 0 open, 2 a candidate.
    """
    inputs = net.widths[0]
    unstable = 0
    for repeat in range(4):
        unstable = bound_neurons(net, work, lower, upper, box_lower, box_upper)
        if unstable < 0:
            return 1, 0, repeat + 1
        any_open = False
        for i in range(inputs):
            work.hull_lower[i], work.hull_upper[i] = np.inf, -np.inf
        for case in range(open_case.size):
            if not open_case[case]:
                continue
            state = examine_case(net, work, case, lower, upper, box_lower, box_upper, steps)
            if state == 4:
                state = 1
            if state == 2 and offer:
                return 2, unstable, repeat + 1
            if state != 1:
                for i in range(inputs):
                    work.box_lower[i], work.box_upper[i] = box_lower[i], box_upper[i]
                if not _contract_case(net, work, case):
                    state = 1
            if state == 1:
                open_case[case] = False
                continue
            any_open = True
            for i in range(inputs):
                work.hull_lower[i] = min(work.hull_lower[i], work.box_lower[i])
                work.hull_upper[i] = max(work.hull_upper[i], work.box_upper[i])
        if not any_open:
            return 1, unstable, repeat + 1
        ratio = 1.0
        for i in range(inputs):
            width = box_upper[i] - box_lower[i]
            if width > 0.0:
                ratio *= (work.hull_upper[i] - work.hull_lower[i]) / width
            box_lower[i], box_upper[i] = work.hull_lower[i], work.hull_upper[i]
        if not ratio < 0.5:
            return 0, unstable, repeat + 1
    return 0, unstable, 4


@compiled()
def choose_split(work, box_lower, box_upper):  # type: ignore[no-untyped-def]
    """The input with most blame that still can be halved, else the widest; -1 if none.

    Sides below 2**-24 of the whole are not halved: there a margin is so close to a tie
    that only exact arithmetic decides.
    """
    best, best_score = -1, -1.0
    for i in range(box_lower.size):
        middle = 0.5 * box_lower[i] + 0.5 * box_upper[i]
        if not box_lower[i] < middle < box_upper[i]:
            continue
        width = (box_upper[i] - box_lower[i]) / work.base_width[i]
        if width < 6e-8:
            continue
        # Without any instability the widths decide; else they only break ties.
        score = work.blame[i] + 1e-12 * width
        if score > best_score:
            best, best_score = i, score
    return best


@compiled()
def copy_box(stack, source, target):  # type: ignore[no-untyped-def]
    """Copy a slot of the stack; plain loops compile in a fraction of a slice's time."""
    for i in range(stack.box_lower.shape[1]):
        stack.box_lower[target, i] = stack.box_lower[source, i]
        stack.box_upper[target, i] = stack.box_upper[source, i]
    for k in range(stack.lower.shape[1]):
        for j in range(stack.lower.shape[2]):
            stack.lower[target, k, j] = stack.lower[source, k, j]
            stack.upper[target, k, j] = stack.upper[source, k, j]
    for case in range(stack.open_case.shape[1]):
        stack.open_case[target, case] = stack.open_case[source, case]
    stack.tried[target] = stack.tried[source]


@compiled()
def explore(net, work, stack, top, budget, steps, leaf_depth, leaf_unstable, offers, counters):  # type: ignore[no-untyped-def]
    """Work on the stack depth first until it is empty or something needs attention.

    Args:
        net: A `KernelNetwork`.
        work: A `KernelWork`.
        stack: A `KernelStack`; slots below `top` wait.
        top: Number of waiting boxes.
        budget: Boxes that may still be bounded.
        steps: Polyak steps per open case.
        leaf_depth: From this depth on, a box with few unstable neurons is handed over.
        leaf_unstable: How many unstable neurons count as few.
        offers: How many candidates a box and its ancestors may offer.
        counters: [boxes, splits, deepest, leaves refuted undivided, leaves refuted] and
            [share refuted undivided, share refuted] as floats, updated in place.

    Returns:
        (status, top). With CANDIDATE the point is in `work.point` and the box stays on
        the stack; with LEFT_OVER the box in slot `top` could not be split.
    """
    slots = stack.depth.size
    while top > 0:
        if counters[0] >= budget:
            return PAUSED, top
        slot = top - 1
        lower, upper = stack.lower[slot], stack.upper[slot]
        box_lower, box_upper = stack.box_lower[slot], stack.box_upper[slot]
        depth, share = stack.depth[slot], stack.share[slot]
        state, unstable, boxes = _examine_box(
            net,
            work,
            lower,
            upper,
            stack.open_case[slot],
            box_lower,
            box_upper,
            steps,
            stack.tried[slot] < offers,
        )
        counters[0] += boxes
        counters[2] = max(counters[2], depth)
        if state == 2:
            stack.tried[slot] += 1
            return CANDIDATE, top
        if state == 1:
            which = 3 if depth == 0 else 4
            counters[which] += 1
            counters[which + 2] += share
            top -= 1
            continue
        split = choose_split(work, box_lower, box_upper)
        small = depth >= leaf_depth and unstable <= leaf_unstable
        if split < 0 or small or slot + 2 > slots:
            return LEFT_OVER, top - 1
        middle = 0.5 * box_lower[split] + 0.5 * box_upper[split]
        copy_box(stack, slot, slot + 1)
        stack.box_upper[slot, split] = middle
        stack.box_lower[slot + 1, split] = middle
        for child in range(slot, slot + 2):
            stack.depth[child] = depth + 1
            stack.share[child] = 0.5 * share
        counters[1] += 1
        top += 1
    return FINISHED, 0
