"""The torch executor, by the name under which users of activations look for it.

It is defined in `auditor.models.torch_graph`, because the functional digest needs it
and models must not depend on activations.
"""

from auditor.models.torch_graph import SUPPORTED, TorchGraph

__all__ = ["SUPPORTED", "TorchGraph"]
