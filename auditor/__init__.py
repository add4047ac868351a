"""auditor: gathers evidence about a model, repairs it, and says whether it may be released."""

import os

# onnxruntime and huggingface_hub report on the machine when they are imported; nothing here asks
# a network unasked. A caller's own setting wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
