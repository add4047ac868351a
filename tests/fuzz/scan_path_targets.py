"""Targets: whole files and folders of models, scanned."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fuzz.inert_unpickler import asked_by
from tests.fuzz.scan_targets import require_plain, small_limits
from tests.fuzz.target import Check, only, parts_of, require_equal

if TYPE_CHECKING:
    from auditor.models.scan.answer import PathScan

FILE_NAMES = (
    "model.bin", "model.onnx", "model.safetensors", "model.pt", "conf.yaml", "config.json", "a.txt",
    "chat_template.jinja", "model.gguf", "data.npz", "model.tar", "weights.h5", "model.keras",
    "data.npy", "model.safetensors.index.json", "model.onnx.gz", "saved_model.pb", "read.py",
)  # fmt: skip
FOLDER_NAMES = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja", "pytorch_model.bin", "model_index.json",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "model.onnx", "README.md",
    "generation_config.json", "adapter_config.json",
)  # fmt: skip


def require_no_crash(found: PathScan) -> None:
    """The scan goes on where a reader fails; here that is a finding."""
    crashes = [problem.problem for _, problem in found.all_problems() if problem.rule == "crashed"]
    require_equal("crashes", crashes, [])


def open_scan_file(folder: Path) -> Check:
    """A whole file by one of several names: what is accepted calls nothing when unpickled."""
    from auditor.models.scan.decision import Decision
    from auditor.models.scan.scanner import scan_path

    limits = small_limits()
    (folder / "weights.bin").write_bytes(bytes(64))
    inner = folder / "scanned"
    inner.mkdir()

    def check(data: bytes) -> None:
        name = FILE_NAMES[data[0] % len(FILE_NAMES)] if data else FILE_NAMES[0]
        content = data[1:]
        path = inner / name
        path.write_bytes(content)
        found = scan_path(path, limits)
        path.unlink()
        require_plain(problem for _, problem in found.all_problems())
        require_no_crash(found)
        require_equal("files", len(found.files), 1)
        if found.decision is Decision.ACCEPTED:
            asked = asked_by(content)
            require_equal("calls in what is accepted", asked.called, set())
            modules = {module.partition(".")[0] for module, _ in asked.imports}
            require_equal("imports of Python's own", modules & sys.stdlib_module_names, set())

    return check


def open_scan_folder(folder: Path) -> Check:
    """A folder of a model, scanned, and read by what would open it if it were accepted."""
    from auditor.errors import FileMissing, RefusedInput
    from auditor.models.diffusion_folder import read_diffusion_folder
    from auditor.models.onnx_folder import read_onnx_folder
    from auditor.models.scan.scanner import scan_path
    from auditor.models.transformers_folder import read_folder

    limits = small_limits()
    readers: tuple[Any, ...] = (read_folder, read_diffusion_folder, read_onnx_folder)
    scanned = folder / "model"

    def check(data: bytes) -> None:
        shutil.rmtree(scanned, ignore_errors=True)
        scanned.mkdir()
        for number, part in parts_of(data, len(FOLDER_NAMES)):
            path = scanned / FOLDER_NAMES[number]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(part)
        found = scan_path(scanned, limits)
        require_plain(problem for _, problem in found.all_problems())
        require_no_crash(found)
        for read in readers:
            with only(FileMissing, RefusedInput):
                read(scanned)

    return check
