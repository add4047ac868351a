"""What the numbers depend on besides model, data and seed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from auditor.findings import Environment

LIBRARIES = ("numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "torch", "z3-solver", "numba")


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
