"""The operations in C++ beside this file, compiled for this machine at first need, and kept.

Without a compiler, GCC 9 or Clang, what calls them falls back on torch's own operations.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hwtune.data.images import cache_folder
from hwtune.files import write_atomic
from hwtune.hardware import cpu_flags

SOURCES, HEADERS = (sorted(Path(__file__).parent.glob(f"*.{end}")) for end in ("cpp", "hpp"))
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
WITHOUT_TILES = ("-mno-amx-bf16",)  # which an assembler may be too old for
PATIENCE = 60.0  # seconds for a compiler that takes five
ENDINGS = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def can_take(maps: torch.Tensor, *weights: torch.Tensor) -> bool:
    """Return whether compiled operations can and should be given these maps (N, C, S, S).

    They compute in one thread, as training on a CPU does, and their weights are float32.
    """
    return (
        maps.dim() == 4
        and maps.dtype in ENDINGS
        and all(each.device.type == "cpu" for each in (maps, *weights))
        and all(each.dtype == torch.float32 for each in weights)
        and torch.get_num_threads() == 1
        and not torch.compiler.is_compiling()
        and library() is not None
    )


Argument = torch.Tensor | float | tuple[int, ...] | None


def call(name: str, maps: torch.Tensor, *arguments: Argument) -> None:
    """Call an operation for the type of its maps, with tensors that lie as it takes them."""
    getattr(library(), f"{name}_{ENDINGS[maps.dtype]}")(*map(in_c, (maps, *arguments)))


def in_c(argument: Argument) -> Any:
    """Return an argument as C takes it."""
    match argument:
        case torch.Tensor():
            return ctypes.c_void_p(argument.data_ptr())
        case bool():
            return ctypes.c_bool(argument)
        case int():
            return ctypes.c_int64(argument)
        case float():
            return ctypes.c_float(argument)
        case tuple():
            return (ctypes.c_int64 * len(argument))(*argument)
        case None:
            return ctypes.c_void_p(None)


@cache
def has_tiles() -> bool:
    """Return whether the compiled operations have the matrix tiles of AMX, and may use them."""
    compiled = library()
    if compiled is None:
        return False
    compiled.has_tiles.restype = ctypes.c_bool
    return bool(compiled.has_tiles())


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled operations, or None where they cannot be compiled.

    The compiler is the one that CXX names, or `c++`; with CXX empty none is asked.
    """
    try:
        compiler = shlex.split(os.environ.get("CXX", "c++"))
    except ValueError:  # a quote that is not closed
        return None
    if not compiler or shutil.which(compiler[0]) is None:
        return None
    sources = [source.read_text(encoding="utf-8") for source in SOURCES + HEADERS]
    machine = [platform.machine(), *platform.libc_ver(), *cpu_flags()]
    key = hashlib.sha256("\n".join([*compiler, *OPTIONS, *machine, *sources]).encode())
    kept = cache_folder() / f"kernels-{key.hexdigest()[:16]}.so"
    with suppress(OSError):
        if own(kept):
            return ctypes.CDLL(str(kept))
    try:
        with TemporaryDirectory(prefix="hwtune-") as folder:
            made = Path(folder) / "kernels.so"
            for options in (OPTIONS, (*OPTIONS, *WITHOUT_TILES)):
                words = [*compiler, *options, *map(str, SOURCES), "-o", str(made)]
                done = subprocess.run(words, capture_output=True, timeout=PATIENCE)
                if done.returncode == 0:
                    break
            done.check_returncode()
            with suppress(OSError):  # where it cannot be kept each process compiles
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(kept, made.read_bytes())
                return ctypes.CDLL(str(kept))  # temporary folders may forbid to run what they hold
            return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):
        return None


def own(file: Path) -> bool:
    """Return whether there is such a file, and nobody else wrote it: it will run as this user."""
    return file.exists() and (not hasattr(os, "getuid") or file.stat().st_uid == os.getuid())
