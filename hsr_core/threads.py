"""Threads of the numeric libraries, for processes that share a robot's few cores with others."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def use_one_blas_thread() -> None:
    """Let BLAS work in the calling thread only, from now on, in this process.

    The products of one person's frame are small. Spread over threads they are no faster, and OpenBLAS keeps the other
    threads spinning between them: measured, 61 instead of 36 ms of CPU a frame. Call it after numpy and scipy loaded.
    """
    threadpool_limits(limits=1, user_api="blas")
