"""The pre-commit hooks: the real pre-commit runs them in a scratch repository, offline."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.ci_scratch import ROOT, commit_all, write_audit, write_executable
from tests.functional.command import TIMEOUT_S, Ended, clean_environment

HOOKS_FILE = ROOT / ".pre-commit-hooks.yaml"
HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook for hook in yaml.safe_load(HOOKS_FILE.read_text("utf-8"))
}
POLICY = "require: [AUD101]\nfail_onn: high\n"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `hooks`, a repository that offers the hooks, and `bin`, where auditor is."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "hooks").mkdir()
    shutil.copy(HOOKS_FILE, folder / "hooks")
    commit_all(folder / "hooks")
    write_executable(folder / "bin")
    return folder


def try_hook(tools: Path, repository: Path, hook: str, *options: str) -> Ended:
    """Run one hook on every file of a repository, as `pre-commit try-repo` does."""
    git = Path(shutil.which("git") or "").parent
    path = f"{tools / 'bin'}:{git}:/usr/bin:/bin"
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "try-repo", str(tools / "hooks"), hook, "--all-files",
         "--color", "never", "--verbose", *options],
        cwd=repository,
        env=clean_environment({"PATH": path, "PRE_COMMIT_HOME": str(tools / "cache")}),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def write_repository(folder: Path) -> None:
    """A model and a plan that are as they should be, committed."""
    write_audit(folder, "pass")
    commit_all(folder)


def test_scan_accepts_a_model_and_refuses_a_pickle(tools: Path, tmp_path: Path) -> None:
    """The pickle is called like a safetensors file, and is not executed."""
    write_repository(tmp_path)
    accepted = try_hook(tools, tmp_path, "auditor-scan")
    assert accepted.code == 0, accepted.out + accepted.err
    assert "model.onnx: onnx; nothing in these parts matched a known danger" in accepted.out
    marker = tmp_path / "executed"
    (tmp_path / "b ad.safetensors").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    commit_all(tmp_path)
    refused = try_hook(tools, tmp_path, "auditor-scan")
    assert refused.code == 1
    assert "exit code: 6" in refused.out
    assert "refused b ad.safetensors" in refused.out
    assert not marker.exists()


def test_validate_names_the_line_of_every_file_that_is_wrong(tools: Path, tmp_path: Path) -> None:
    """Plan, policy and waivers are told apart; files of other names are left alone."""
    write_audit(tmp_path, "pass")
    (tmp_path / "auditor-policy.yaml").write_text(POLICY)
    (tmp_path / "auditor-waivers.yml").write_text("- match: AUD101\n  model_digest: any\n")
    (tmp_path / "other-policy.yaml").write_text(POLICY)
    commit_all(tmp_path)
    ended = try_hook(tools, tmp_path, "auditor-validate")
    assert ended.code == 1
    assert "exit code: 2" in ended.out
    assert "auditor-plan.yaml: valid plan" in ended.out
    assert "auditor-policy.yaml:2:1: unknown key 'fail_onn'; did you mean 'fail_on'?" in ended.out
    assert re.search(r"auditor-waivers\.yml:1:\d+: .*reason", ended.out)
    assert "other-policy" not in ended.out


def test_a_machine_without_auditor_is_told_so(tools: Path, tmp_path: Path) -> None:
    """Nothing passes because nothing could be asked."""
    write_repository(tmp_path)
    (tools / "empty" / "bin").mkdir(parents=True)
    shutil.copytree(tools / "hooks", tools / "empty" / "hooks")
    ended = try_hook(tools / "empty", tmp_path, "auditor-scan")
    assert ended.code == 1
    assert "Executable `auditor` not found" in ended.out


def test_only_the_quick_hooks_are_offered() -> None:
    """A whole audit does not belong before a commit."""
    assert HOOKS.keys() == {"auditor-scan", "auditor-validate"}


@pytest.mark.parametrize(
    ("hook", "name", "taken"),
    [
        ("auditor-scan", "models/a.onnx", True),
        ("auditor-scan", "a.onnx.gz", True),
        ("auditor-scan", "a.pkl", True),
        ("auditor-scan", "weights/llm.Q4_K_M.gguf", True),
        ("auditor-scan", "a.npy", True),
        ("auditor-scan", "a.npz", True),
        ("auditor-scan", "asr.nemo", True),
        ("auditor-scan", "served.mar", True),
        ("auditor-scan", "pipeline.skops", True),
        ("auditor-scan", "best.pth.tar", True),
        ("auditor-scan", "pytorch_model-00001-of-00002.bin", True),
        ("auditor-scan", "run/training_args.bin", True),
        ("auditor-scan", "export/saved_model.pb", True),
        ("auditor-scan", "a.onnx.md", False),
        ("auditor-scan", "data.tar", False),
        ("auditor-scan", "model/firmware.bin", False),
        ("auditor-scan", "messages.pb", False),
        ("auditor-scan", "a.bin", False),
        ("auditor-validate", "auditor-plan.yaml", True),
        ("auditor-validate", "ci/auditor-waivers-2027.yml", True),
        ("auditor-validate", "policy.yaml", False),
        ("auditor-validate", "my-auditor-plan.yaml", False),
    ],
)
def test_files_of_each_hook(hook: str, name: str, taken: bool) -> None:
    """Names as pre-commit matches them, anywhere in the path."""
    assert bool(re.search(HOOKS[hook]["files"], name)) is taken
