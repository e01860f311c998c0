"""Where and in which precision a network trains, and the settings that make a CPU fast."""

from __future__ import annotations

import ctypes
import gc
import platform
import timeit
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from time import thread_time

import torch

from hwtune.hardware import cpu_flags

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
ENOUGH_GAIN = 1.2  # times as fast in bfloat16; conversions cost the rest


@dataclass(frozen=True)
class Fast:
    """How to compute.

    Attributes:
        device: "cpu" or "cuda".
        bf16: whether matrix products run in bfloat16 (autocast).
        graphs: whether steps of training are recorded as CUDA graphs.
    """

    device: str
    bf16: bool
    graphs: bool = False

    @property
    def dtype(self) -> str:
        """Return the type of numbers in matrix products, by torch's name."""
        return "bfloat16" if self.bf16 else "float32"


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks, which doubles the speed of training on a CPU.

    By default each activation of over 128 KiB is given back to the system after its use and
    page-faulted in again at the next step. Call it before the first tensor; elsewhere than on
    glibc it does nothing.
    """
    if platform.system() != "Linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def prepare_process(*, gpu: bool) -> Fast:
    """Prepare a process that trains or reads beside others, and return how it computes.

    On a CPU it computes in one thread: two processes of one are faster than one of two.
    """
    keep_freed_memory()
    # The arrays of the object store are read-only, and nothing here writes to them.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    fast = choose_device(gpu=gpu)
    if fast.device == "cpu":
        torch.set_num_threads(1)
    return fast


def choose_device(*, gpu: bool = True) -> Fast:
    """Return the fastest way to compute here; `gpu` says whether one may be used.

    bf16 is used where the hardware multiplies in it, and faster: with emulation it would be slower.
    """
    if gpu and torch.cuda.is_available() and torch_computes_there():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Fast("cuda", bf16, graphs=True)
    return Fast("cpu", cpu_has_bf16() and bf16_gain() >= ENOUGH_GAIN)


def torch_computes_there() -> bool:
    """Return whether torch was built for this GPU: its packages leave out old ones, and the newest.

    Any other trouble is not the GPU's kind, and is met where it is used.
    """
    try:
        (torch.zeros(1, device="cuda") + 1).tolist()
    except RuntimeError as error:
        return "no kernel image" not in str(error)
    return True


def free_gpu_memory() -> None:
    """Give back what nothing in this process uses of its GPU; without one it does nothing."""
    if torch.cuda.is_initialized():
        gc.collect()  # a step and its graph hold what they read and write
        torch.cuda.empty_cache()


@cache
def bf16_gain() -> float:
    """Return how many times as fast this CPU multiplies in bfloat16 as in float32.

    An instruction set does not tell: with AVX-512 BF16 an AMD EPYC trains 1.3 to 2 times as fast
    (`results/bench/engine.json`), while an Intel Xeon without AMX multiplies half as fast
    (`results/LOG.md`). So far from 1, other work on the machine does not change the answer, and
    all processes of a study find the same: the products take turns, and only this thread's own
    time counts.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    factors = [torch.ones(512, 512, dtype=each) for each in (torch.float32, torch.bfloat16)]
    products = [timeit.Timer(partial(torch.mm, each, each), timer=thread_time) for each in factors]
    rounds = [[product.timeit(1) for product in products] for _ in range(20)]
    torch.set_num_threads(threads)
    plain, short = map(min, zip(*rounds, strict=True))
    return plain / short


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies in bfloat16 (AVX-512 BF16 or AMX on x86)."""
    if not torch.backends.mkldnn.is_available():
        return False
    flags = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in flags:
        return False
    return "avx512_bf16" in cpu_flags()
