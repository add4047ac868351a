"""Shifted inputs, and scores that should tell them from ordinary ones.

Every score is larger for stranger inputs:

- distance: contradicted neurons of the pattern of the model's class (`auditor.patterns.monitor`);
- softmax: how far the largest softmax probability is from 1 (Hendrycks, Gimpel, ICLR 2017,
  1610.02136), as log((1 - p) / p), which orders inputs alike and does not saturate;
- Mahalanobis: squared distance of the last activation layer's values to the nearest class mean
  under one covariance for all classes (Lee et al., NeurIPS 2018, 1807.03888, without its
  input noise and its other layers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy.special import logsumexp

from auditor.activations.capture import Capture, CaptureOptions, Inputs, Point
from auditor.activations.layers import activation_layers
from auditor.activations.onnx_capture import OnnxCapture
from auditor.errors import ConfigurationError, NothingToAudit
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import capture_for
from auditor.patterns.mine import batch_labels, check_labels
from auditor.patterns.monitor import Monitor

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Shift = Callable[[Array], Array]

DISTANCE: Final = "pattern distance"
SOFTMAX: Final = "maximum softmax"
MAHALANOBIS: Final = "Mahalanobis"


def add_noise(images: Array, deviation: float, *, seed: int = 0) -> Array:
    """Images with independent Gaussian noise, clipped to [0, 1]; any shape.

    Args:
        images: Pixels in [0, 1].
        deviation: Standard deviation, in the unit of the pixels.
        seed: Another seed gives other noise.
    """
    noise = np.random.default_rng(seed).normal(0.0, deviation, images.shape)
    return _clipped(images + noise, images)


def blur(images: Array, shape: tuple[int, int], deviation: float) -> Array:
    """Images under a Gaussian blur, edges repeated.

    Args:
        images: [samples, ...] with height x width pixels each, in [0, 1].
        shape: Height and width.
        deviation: Standard deviation of the blur in pixels.
    """
    pictures = _pictures(images, shape)
    blurred = scipy.ndimage.gaussian_filter(pictures, (0, deviation, deviation), mode="nearest")
    return _clipped(blurred.reshape(images.shape), images)


def rotate(images: Array, shape: tuple[int, int], degrees: float) -> Array:
    """Images turned about their middle, bilinear, black where nothing was.

    Args:
        images: [samples, ...] with height x width pixels each, in [0, 1].
        shape: Height and width.
        degrees: By how much, from the first axis of pixels towards the second.
    """
    pictures = _pictures(images, shape)
    turned = scipy.ndimage.rotate(pictures, degrees, axes=(1, 2), reshape=False, order=1)
    return _clipped(turned.reshape(images.shape), images)


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """Class means and the inverse of the covariance within classes.

    Attributes:
        means: [classes with samples, features].
        precision: [features, features]; the pseudo-inverse, as dead neurons have none.
    """

    means: Float64
    precision: Float64

    @staticmethod
    def fit(features: Array, labels: Array) -> Mahalanobis:
        """From samples and their classes.

        Args:
            features: [samples, features].
            labels: Integers, [samples].

        Raises:
            NothingToAudit: No sample.
        """
        wide = features.astype(np.float64)
        if not len(wide):
            raise NothingToAudit("no samples to fit class means to; give at least one")
        classes, place = np.unique(labels, return_inverse=True)
        means = np.stack([wide[place == number].mean(axis=0) for number in range(len(classes))])
        centred = wide - means[place]
        covariance = centred.T @ centred / len(wide)
        return Mahalanobis(means, np.linalg.pinv(covariance, hermitian=True))

    def score(self, features: Array) -> Float64:
        """Squared distance to the nearest mean, [samples]."""
        wide = features.astype(np.float64)
        found = np.full(len(wide), np.inf)
        for mean in self.means:  # class by class: memory for one difference at a time
            away = wide - mean
            found = np.minimum(found, np.einsum("sf,sf->s", away @ self.precision, away))
        return found


def softmax_score(logits: Array) -> Float64:
    """log((1 - p) / p) of the largest softmax probability p, [samples] from [samples, classes]."""
    wide = logits.astype(np.float64)
    best = wide.argmax(axis=1)[:, None]
    rest = wide.copy()
    np.put_along_axis(rest, best, -np.inf, axis=1)
    found: Float64 = logsumexp(rest, axis=1) - np.take_along_axis(wide, best, axis=1)[:, 0]
    return found


class Detectors:
    """A monitor and the two baselines, ready to score inputs of one model.

    Attributes:
        monitor: The monitor.
        mahalanobis: Fitted to the samples given.
    """

    def __init__(
        self,
        monitor: Monitor,
        model: OnnxModel,
        inputs: Inputs,
        labels: Array | Sequence[int],
        options: CaptureOptions | None = None,
    ) -> None:
        """Fit the baseline that has something to fit.

        Args:
            monitor: From patterns of the model.
            model: A classifier whose first output are logits.
            inputs: The samples that the patterns were mined from.
            labels: Their classes.
            options: How the model is run.

        Raises:
            PatternMismatch: The monitor is another model's.
            ConfigurationError: A label out of range, labels of another number.
            NothingToAudit: No sample.
        """
        self.monitor = monitor
        given = options or CaptureOptions()
        self._watched: Capture = capture_for(monitor.patterns, model, given)
        last = len(activation_layers(model.proto.graph)) - 1
        self._last = OnnxCapture(model, [last], replace(given, point=Point.AFTER))
        known = check_labels(labels)
        features = []
        for batch in self._last.batches(inputs):
            batch_labels(batch, known)
            features.append(batch.values[0])
        self.mahalanobis = Mahalanobis.fit(np.concatenate(features), known)

    def scores(self, inputs: Inputs) -> dict[str, Float64]:
        """Every score of every sample, by name, [samples] each."""
        far = self.monitor.far
        found: Mapping[str, list[Float64]] = {DISTANCE: [], SOFTMAX: [], MAHALANOBIS: []}
        said = self.monitor.label(self._watched.batches(inputs))
        for labels, batch in zip(said, self._last.batches(inputs), strict=True):
            own = labels.own_distances
            found[DISTANCE].append(np.where(own < 0, far, own).astype(np.float64))
            found[SOFTMAX].append(softmax_score(batch.outputs))
            found[MAHALANOBIS].append(self.mahalanobis.score(batch.values[0]))
        return {name: np.concatenate(parts) for name, parts in found.items()}


def _pictures(images: Array, shape: tuple[int, int]) -> Array:
    if images[:1].size not in (0, shape[0] * shape[1]):
        raise ConfigurationError(
            f"images of {images[:1].size} pixels are not {shape[0]}x{shape[1]}; give height and "
            "width of one channel"
        )
    return images.reshape(len(images), *shape)


def _clipped(changed: Array, images: Array) -> Array:
    found: Array = changed.clip(0.0, 1.0).astype(images.dtype)
    return found
