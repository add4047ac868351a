"""Digests of a model: which bytes are under audit, and which function they compute.

For a file without external data it is the plain SHA-256 that `sha256sum` prints. A
model with external data files is the model file and every whole data file, in the
order of their locations, so that a changed weight changes the digest wherever it
is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import RefusedModel
from auditor.models.external_data import open_external
from auditor.models.limits import Limits
from auditor.models.preflight import open_regular, vet_model

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel


def file_digest(path: Path | str, limits: Limits | None = None) -> str:
    """`sha256:<hex>` of a model file, external data files included.

    A file that would be refused as a model is digested as plain bytes, so that a
    refusal can still say which file it speaks of.

    Raises:
        FileMissing: There is nothing at the path.
        RefusedModel: The path is a folder, a pipe or a device.
    """
    limits = limits or Limits()
    path = Path(path)
    try:
        vetted = vet_model(path, limits)
        with open_external(path, vetted.external, limits) as files:
            return combine_digests(vetted.sha256, files.digests())
    except RefusedModel:
        with open_regular(path) as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def combine_digests(model_sha256: str, external_sha256: Mapping[str, str]) -> str:
    """The digest of a model from the hex digests of its file and of its data files.

    With data files it is the SHA-256 of one line per file, `<hex>  <location>`, the
    model's own first with the location left empty.
    """
    if not external_sha256:
        return f"sha256:{model_sha256}"
    lines = [f"{model_sha256}  \n"]
    lines += [f"{external_sha256[location]}  {location}\n" for location in sorted(external_sha256)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def functional_digest(model: OnnxModel) -> str:
    """`fn1:<hex>` of what the model computes; see `auditor.models.functional_digest`.

    Raises:
        UnsupportedOperator: The torch executor cannot express an operator.
        UnsupportedModel: The model takes no numeric inputs, or fails on the probes.
    """
    from auditor.models import functional_digest as engine  # torch is slow to import

    return engine.compute_functional_digest(model)
