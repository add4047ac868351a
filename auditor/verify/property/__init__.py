"""Properties of a network: what should hold for every input of a set.

prop = load_property(Path("safe.yaml"), num_inputs=5, num_outputs=5)
"""

from auditor.verify.property.cases import Property, UnsafeCase, UnsafeRow
from auditor.verify.property.pattern import LayerStates, Pattern
from auditor.verify.property.patterned import (
    conflicting_neuron,
    nobody_follows,
    pattern_class_property,
    pattern_overlap_property,
)
from auditor.verify.property.reading import load_property
from auditor.verify.property.robustness import robustness_property

__all__ = [
    "LayerStates",
    "Pattern",
    "Property",
    "UnsafeCase",
    "UnsafeRow",
    "conflicting_neuron",
    "load_property",
    "nobody_follows",
    "pattern_class_property",
    "pattern_overlap_property",
    "robustness_property",
]
