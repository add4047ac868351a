"""What the numbers depend on besides model, data and seed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from auditor.errors import ConfigurationError
from auditor.findings import Environment

LIBRARIES = ("numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "torch", "z3-solver", "numba")


def resolve_device(wanted: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`.

    Raises:
        ConfigurationError: CUDA was asked for and torch or onnxruntime has none.
    """
    if wanted == "cpu":
        return "cpu"
    import onnxruntime
    import torch

    has_cuda = (
        torch.cuda.is_available()
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    )
    if wanted == "cuda" and not has_cuda:
        raise ConfigurationError(
            "device 'cuda' was asked for and torch or onnxruntime finds none; use --device cpu"
        )
    return "cuda" if has_cuda else "cpu"


def describe_environment(device: str, threads: int) -> Environment:
    """The environment of this process."""
    return Environment(
        auditor=version("auditor"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        threads=threads,
        libraries={name: found for name in LIBRARIES if (found := installed_version(name))},
    )


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def numerical_class(environment: Environment) -> dict[str, str]:
    """The part of the environment that a result's key depends on.

    Device, threads and minor versions; not the host, the path or the time.
    """
    minor = {name: ".".join(v.split(".")[:2]) for name, v in environment.libraries.items()}
    return {"device": environment.device, "threads": str(environment.threads), **minor}
