"""The largest verified radius around images of mnist_fc, without and with the class's pattern.

    python benchmarks/pattern_radius.py 256x2
    python benchmarks/pattern_radius.py --plot docs/pattern_radius.svg

For each image of mnist_fc's instances, bisection over the radius (L-infinity, clipped to [0, 1]):
does every input within it keep the class, and does every one that follows the pattern of the
class? Patterns are mined from MNIST as in `patterns_mnist.py`, for falling deltas; each fixes what
the one before it fixes and more, so its radius is looked for from that one's on. There is no
radius where an image does not follow the pattern of its class. A radius that is not decided
within the limit counts as not verified.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import statistics
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from auditor.findings import Verdict
from auditor.models.labelled_data import divided, read_labelled
from auditor.patterns.mine import mine_patterns
from auditor.verify.onnx_subject import OnnxSubject, open_subject, read_property
from auditor.verify.outcome import Limits
from auditor.verify.pattern_trials import PatternVerifier
from auditor.verify.phases import phases_of
from auditor.verify.property import Pattern

ROOT = Path(__file__).parents[1]
MINED = 8_000
SMALLEST, LARGEST = 0.005, 1.0
COLOURS = {"256x2": "#1d4ed8", "256x4": "#b45309"}
RADIUS_IN_NAME = re.compile(r"_(0\.\d+)\.vnnlib")


def images_of(folder: Path, subject: OnnxSubject, network: str, count: int) -> list[np.ndarray]:
    """The centres of the first instances of a network, each once."""
    with (folder / "instances.csv").open() as stream:
        rows = [row["property"] for row in csv.DictReader(stream) if network in row["onnx"]]
    centers = []
    for name in rows:
        radius = Fraction(RADIUS_IN_NAME.search(name)[1])
        if radius != Fraction("0.03"):
            continue  # the same images again
        path = folder / name
        path = path if path.exists() else path.with_name(path.name + ".gz")
        case = read_property(path, subject.network).cases[0]
        # Boxes are clipped to [0, 1]: one end at least lies a radius from the centre.
        ends = zip(case.lower, case.upper, strict=True)
        center = [float(low + radius if low > 0 else high - radius) for low, high in ends]
        centers.append(np.array(center, dtype=np.float32).clip(0, 1))
    return centers[:count]


def follows(subject: OnnxSubject, states: dict[Any, Any], image: np.ndarray) -> bool:
    """Whether an image shows all states of a pattern."""
    values = subject.network.preactivations(image[None].astype(np.float64))
    phases = phases_of(Pattern.of(states), subject.network)
    return all((v[0] * p >= 0).all() for v, p in zip(values, phases, strict=True) if p.any())


def largest_radius(ask: Any, known: float, steps: int) -> float:
    """Bisection on a logarithmic scale from a radius that is known to be verified, 0 for none."""
    if known >= LARGEST or ask(LARGEST):
        return LARGEST
    if not known and not ask(SMALLEST):
        return 0.0
    low, high = max(known, SMALLEST), LARGEST
    for _ in range(steps):
        middle = float((low * high) ** 0.5)
        if ask(middle):
            low = middle
        else:
            high = middle
    return low


def run(network: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One record for each image: the radius without a pattern, and with that of each delta."""
    data = options.data
    subject = open_subject(data / f"vnncomp/mnist_fc/onnx/mnist-net_{network}.onnx.gz")
    labelled = read_labelled(
        data / "mnist/t10k-images-idx3-ubyte.gz", data / "mnist/t10k-labels-idx1-ubyte.gz"
    )
    inputs = divided(labelled.inputs, 255)
    patterns = mine_patterns(subject.model, inputs[:MINED], labelled.labels[:MINED], options.delta)
    images = images_of(data / "vnncomp/mnist_fc", subject, network, options.count)
    verifier = PatternVerifier(
        subject, ("0", "1"), np.array(images), limits=Limits(time_s=options.time)
    )
    records = []
    for number, image in enumerate(images):
        label = int(subject.network.evaluate(image[None].astype(np.float64))[0].argmax())
        radii, known = [], 0.0
        for states in ({}, *(patterns.class_states(label, delta) for delta in options.delta)):
            radius = None
            if follows(subject, states, image):
                known = radius = largest_radius(
                    lambda radius, states=states, label=label, number=number: (
                        verifier.around(label, states, number, f"{radius:.6f}").verdict
                        is Verdict.HOLDS
                    ),
                    known,
                    options.steps,
                )
            radii.append(radius)
        cells = " | ".join("-" if radius is None else f"{radius:.4f}" for radius in radii)
        print(f"| {network} | {number} | {label} | {cells} |", flush=True)
        records.append({"network": network, "image": number, "class": label, "radii": radii})
    return records


def print_factors(records: list[dict[str, Any]], deltas: list[str]) -> None:
    """By what factor patterns let the radius grow, network by network and delta by delta."""
    for network in dict.fromkeys(each["network"] for each in records):
        for place, delta in enumerate(deltas, start=1):
            of_network = [each["radii"] for each in records if each["network"] == network]
            factors = [r[place] / r[0] for r in of_network if r[0] and r[place] is not None]
            if factors:
                whole = sum(r[place] == LARGEST for r in of_network)
                print(f"{network}, delta {delta}: {len(factors)} images, median factor "
                      f"{statistics.median(factors):.2f}, largest {max(factors):.2f}, whole "
                      f"domain for {whole}")  # fmt: skip


def plot(records: list[dict[str, Any]], deltas: list[str]) -> str:
    """Radii of every image, without on the x axis and with on the y axis, as SVG."""

    def place(radius: float) -> float:
        low, high = math.log10(SMALLEST), math.log10(LARGEST)
        return (math.log10(max(radius, SMALLEST)) - low) / (high - low)

    marks = "".join(
        f'<circle cx="{60 + 330 * place(each["radii"][0]):.1f}" '
        f'cy="{360 - 330 * place(radius):.1f}" r="{3 + 1.5 * number}" fill="none" '
        f'stroke="{COLOURS[each["network"]]}"><title>{each["network"]}, image {each["image"]}, '
        f"delta {deltas[number]}</title></circle>"
        for each in records
        for number, radius in enumerate(each["radii"][1:])
        if radius is not None
    )
    ticks = "".join(
        f'<text x="{60 + 330 * place(value):.1f}" y="378" text-anchor="middle">{value:g}</text>'
        f'<text x="54" y="{364 - 330 * place(value):.1f}" text-anchor="end">{value:g}</text>'
        for value in (0.005, 0.02, 0.1, 0.5)
    )
    names = "".join(
        f'<text x="205" y="{290 + 16 * number}" fill="{colour}">{name}</text>'
        for number, (name, colour) in enumerate(COLOURS.items())
    )
    names += f'<text x="205" y="322" fill="#444">rings: delta {", ".join(deltas)}, outward</text>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 410" font-family="sans-serif" '
        'font-size="12" role="img"><title>Largest verified radius without and with the pattern of '
        "the class</title>"
        f'<path d="M60 30V360H390M60 360L390 30" stroke="#999" fill="none"/>{ticks}{names}{marks}'
        '<text x="225" y="400" text-anchor="middle">radius verified without a pattern</text>'
        '<text x="14" y="195" transform="rotate(-90 14 195)" text-anchor="middle">with it</text>'
        "</svg>\n"
    )


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["256x2", "256x4"])
    parser.add_argument("--count", type=int, default=15, help="images of each network")
    parser.add_argument("--delta", nargs="+", default=["0.99", "0.95", "0.90"])
    parser.add_argument("--steps", type=int, default=5, help="bisections of each radius")
    parser.add_argument("--time", type=float, default=10.0, help="seconds for each question")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--plot", type=Path, help="write a picture (SVG) here")
    options = parser.parse_args()
    heads = ("network", "image", "class", "without", *options.delta)
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    records = [record for network in options.networks for record in run(network, options)]
    print_factors(records, options.delta)
    out = ROOT / "benchmarks" / "results" / "pattern_radius.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    if options.plot:
        options.plot.write_text(plot(records, options.delta))


if __name__ == "__main__":
    main()
