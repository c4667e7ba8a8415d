"""Threads of the numeric libraries, for processes that share a robot's few cores with others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

MOST_TORCH_THREADS = 4
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""Environment of processes that have a core each."""


def one_per_process() -> None:
    """Let everything that is opened from now on work in the thread that calls it: for processes that have a core each.

    Networks are a third faster in two threads, which wait for each other by spinning: measured, 33 instead of 24 ms of
    CPU a frame.
    """
    os.environ.update(ONE_THREAD)


def shared_by(streams: int) -> dict[str, str]:
    """Return what to add to the environment where so many streams of images are worked on at once on this computer.

    With two cores for each stream a second thread gives frames earlier, with fewer it takes the core from another one.
    """
    return dict(ONE_THREAD) if 2 * streams > len(os.sched_getaffinity(0)) and streams > 1 else {}


def network_threads() -> int:
    """Return in how many threads a small network runs, and whether two of them run at the same time: 2, or 1."""
    return 1 if os.environ.get("OMP_NUM_THREADS") == "1" else 2


def use_one_blas_thread() -> None:
    """Let BLAS work in the calling thread only, from now on, in this process.

    The products of one person's frame are small. Spread over threads they are no faster, and OpenBLAS keeps the other
    threads spinning between them: measured, 61 instead of 36 ms of CPU a frame. Call it after numpy and scipy loaded.
    """
    threadpool_limits(limits=1, user_api="blas")


@contextmanager
def few_torch_threads() -> Iterator[int]:
    """Let torch work in half of the cores, at most four, within the block; gives their number.

    Torch's threads wait for each other many times in a step of an optimisation, and spin while they do. On cores that
    others use too a step then takes ten times as long: measured on two busy cores, 800 in place of 24 ms. On two idle
    ones one thread costs a sixth.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(MOST_TORCH_THREADS, max(1, (os.cpu_count() or 1) // 2)))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
