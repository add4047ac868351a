"""Names that pickles import: those that plain tensors need, and what others are known to do.

A name that is not in `ALLOWED` is a problem whatever it is, so `_KNOWN` never decides: it only
says more about a name than that it is unknown. Lists of dangerous names alone have kept failing
(CVE-2025-1716, CVE-2025-10155 to -10157, CVE-2026-56304, CVE-2026-56315, all of picklescan).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.torch_types import DTYPES, STORAGES

_TORCH: Final = "torch.load with weights_only=True allows it (torch/_weights_only_unpickler.py)"
_STORAGE: Final = f"the type of a tensor's numbers; {_TORCH}"
_REBUILD: Final = f"makes a tensor from its numbers; {_TORCH}"
_NUMPY: Final = "numpy.ndarray.__reduce__ names it (numpy/_core/src/multiarray/methods.c)"

ALLOWED: Final[Mapping[Import, str]] = MappingProxyType(
    {
        Import("collections", "OrderedDict"): f"the mapping of a state dict; {_TORCH}",
        Import("torch._utils", "_rebuild_tensor"): _REBUILD,
        Import("torch._utils", "_rebuild_tensor_v2"): _REBUILD,
        Import("torch._utils", "_rebuild_tensor_v3"): _REBUILD,
        Import("torch._utils", "_rebuild_parameter"): _REBUILD,
        Import("torch", "Size"): f"the shape of a tensor; {_TORCH}",
        Import("torch", "device"): f"where a tensor was; {_TORCH}",
        Import("torch.storage", "TypedStorage"): _STORAGE,
        Import("numpy", "ndarray"): _NUMPY,
        Import("numpy", "dtype"): _NUMPY,
        Import("numpy.core.multiarray", "_reconstruct"): f"{_NUMPY}, before numpy 2",
        Import("numpy._core.multiarray", "_reconstruct"): _NUMPY,
        Import("numpy.core.numeric", "_frombuffer"): f"{_NUMPY} in protocol 5, before numpy 2",
        Import("numpy._core.numeric", "_frombuffer"): f"{_NUMPY} in protocol 5",
        Import("_codecs", "encode"): f"bytes in protocols 0 to 2; {_TORCH}",
    }
    | dict.fromkeys((*STORAGES, *DTYPES), _STORAGE)
)  # fmt: skip
"""What plain tensors and arrays need, each with its reason and source."""

TENSOR_MAKERS: Final = frozenset({
    Import("torch._utils", "_rebuild_tensor"), Import("torch._utils", "_rebuild_tensor_v2"),
    Import("torch._utils", "_rebuild_tensor_v3"), Import("torch._utils", "_rebuild_parameter"),
    Import("numpy.core.multiarray", "_reconstruct"),
    Import("numpy._core.multiarray", "_reconstruct"),
    Import("numpy.core.numeric", "_frombuffer"), Import("numpy._core.numeric", "_frombuffer"),
})  # fmt: skip
"""What is called for a tensor or an array."""

DICT_MAKERS: Final = frozenset({
    Import("collections", "OrderedDict"), Import("collections", "defaultdict"),
    Import("collections", "Counter"), Import("builtins", "dict"), Import("__builtin__", "dict"),
})  # fmt: skip
"""What is called for a dict."""

_BY_WHAT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "can run commands": (
        "os", "posix", "nt", "subprocess", "_posixsubprocess", "commands", "popen2", "pty",
        "platform.popen", "distutils.spawn", "asyncio", "multiprocessing", "pip", "ensurepip",
        "venv", "pydoc.pipepager", "pydoc.tempfilepager", "_pyrepl.pager", "_osx_support",
        "_aix_support", "imaplib.IMAP4_stream", "test.support.script_helper",
        "uuid._get_command_stdout", "idlelib.pyshell", "torch.utils.collect_env",
        "numpy.f2py.diagnose", "numpy.distutils", "pexpect", "sh", "paramiko",
    ),
    "can run code that is given as a text": (
        "builtins.eval", "builtins.exec", "builtins.compile", "builtins.execfile", "runpy",
        "code", "codeop", "bdb", "pdb", "profile", "cProfile", "timeit", "trace", "doctest",
        "idlelib", "rlcompleter", "_xxsubinterpreters", "logging.config", "numpy.testing",
        "numpy.f2py", "torch._dynamo", "torch._inductor", "torch.fx", "torch.jit",
        "torch.utils.bottleneck", "torch.utils.benchmark", "torch.utils.cpp_extension", "sympy",
        "pandas.eval", "pandas.core.computation", "jinja2", "IPython",
    ),
    "can import any module": (
        "builtins.__import__", "importlib", "imp", "pkgutil", "zipimport", "pydoc",
        "modulefinder", "unittest", "test", "site", "zipapp", "torch.package",
    ),
    "can reach or call any function": (
        "builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.globals",
        "builtins.locals", "builtins.vars", "builtins.type", "builtins.super", "builtins.apply",
        "builtins.map", "builtins.filter", "builtins.breakpoint", "builtins.input", "operator",
        "_operator", "functools", "_functools", "itertools", "types", "inspect", "gc", "sys",
        "threading", "_thread", "sched", "atexit", "signal", "contextlib", "concurrent.futures",
    ),
    "opens another pickle": (
        "pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib",
        "lib2to3", "logging.handlers", "multiprocessing.reduction", "torch.load",
        "torch.serialization", "torch.storage._load_from_bytes", "torch.export",
        "torch.utils._config_module", "torch.utils.data", "torch.multiprocessing", "numpy.load",
        "numpy.lib.npyio", "numpy.lib.format", "numpy.lib._npyio_impl", "numpy.lib._format_impl",
        "pandas.read_pickle", "pandas.io.pickle",
    ),
    "can load native code": (
        "ctypes", "_ctypes", "cffi", "_imp", "mmap", "torch.ops", "torch.classes", "torch._ops",
        "torch._classes", "numpy.ctypeslib",
    ),
    "can call functions on other machines": (
        "torch.distributed", "torch._C._distributed_rpc", "ray", "dask", "distributed",
    ),
    "can fetch and send over the network": (
        "socket", "_socket", "socketserver", "ssl", "http", "httplib", "urllib", "urllib2",
        "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "smtpd", "poplib",
        "imaplib", "nntplib", "telnetlib", "xmlrpc", "webbrowser", "wsgiref", "torch.hub",
        "huggingface_hub",
    ),
    "can read, write or delete files": (
        "builtins.open", "io", "_io", "_pyio", "codecs.open", "shutil", "pathlib", "tempfile",
        "fileinput", "linecache", "tarfile", "zipfile", "gzip", "bz2", "lzma", "distutils",
        "filecmp", "sqlite3", "_sqlite3", "dbm", "mailbox", "compileall", "py_compile",
        "tokenize", "logging", "cgitb", "numpy.memmap", "numpy.fromfile", "numpy.save",
        "torch.save", "torch.from_file",
    ),
})  # fmt: skip
_KNOWN: Final[Mapping[str, str]] = MappingProxyType(
    {path: what for what, paths in _BY_WHAT.items() for path in paths}
)
_MOST_SHOWN: Final = 80
_MOST_WORDS: Final = 8


def describe_import(found: Import) -> str:
    """What a name that is not allowed is, as a line for a problem."""
    shown = ".".join(found)
    shown = shown if len(shown) <= _MOST_SHOWN else shown[: _MOST_SHOWN - 3] + "..."
    what = next((_KNOWN[path] for path in _paths(found) if path in _KNOWN), None)
    if what is None:
        return f"imports {shown!r}, which is none of the names that plain tensors need"
    return f"imports {shown!r}, which {what}"


def _paths(found: Import) -> Iterator[str]:
    """The name and what it lies in, longest first; then the same below its module.

    The second because a name with dots may lead from a harmless module to any other:
    `torch.serialization` and `os.system`.
    """
    own = found.name.split(".")[:_MOST_WORDS]
    # Unpickling in protocols 0 to 2 replaces the name that Python 2 used.
    module = "builtins" if found.module == "__builtin__" else found.module
    words = [*module.split(".")[:_MOST_WORDS], *own]
    for path in (*(own[begin:] for begin in range(len(own) - 1)), words):
        yield from (".".join(path[:end]) for end in range(len(path), 0, -1))
