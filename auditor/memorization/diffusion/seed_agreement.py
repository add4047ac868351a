"""How alike the images of one prompt are over seeds: a memorised prompt gives one image again.

Pairwise similarity of finished samples, as in the study of template memorisation by Webster 2023
(arXiv 2305.08694) and NeMo (arXiv 2406.02366): it needs no training image, and it also sees
templates, of which only the layout repeats.
"""

from __future__ import annotations

from torch import Tensor

from auditor.errors import ConfigurationError


def seed_agreement(vectors: Tensor) -> float:
    """Mean cosine of all pairs of samples of one prompt.

    Args:
        vectors: [samples, d], of length 1, at least two.

    Raises:
        ConfigurationError: There are fewer than two.
    """
    count = len(vectors)
    if count < 2:
        raise ConfigurationError(f"agreement of {count} samples; draw at least 2 of each prompt")
    together = vectors.double()
    # The sum over all pairs is the squared length of the sum, less each vector with itself.
    whole, own = together.sum(0).square().sum(), together.square().sum()
    return float((whole - own) / (count * (count - 1)))
