"""Units on workers: one process, several, or a Ray cluster. Finished units are kept, failed ones tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

from ..errors import HsrError, MissingPackage
from ..threads import one_per_process
from .unit import Unit, UnitResult, run_unit

log = logging.getLogger(__name__)

TRIES = 3


class UnitFailed(HsrError):
    """A unit failed every time; what other units gave is kept."""


OnDone = Callable[[Unit, UnitResult], None]


def run_units(
    units: Sequence[Unit], folder: Path, *, jobs: int = 1, ray: str = "", on_done: OnDone = lambda unit, result: None
) -> list[UnitResult]:
    """Do all units; return their results in order.

    Args:
        units: Finished ones are read, not done again.
        folder: Each unit has a folder in it, named by its key.
        jobs: Processes on this machine; 1 = this one.
        ray: Address of a Ray cluster that sees the same files, `local` to start one here; "" = none.
        on_done: Called as they finish.

    Raises:
        UnitFailed: After three tries.
        MissingPackage: Ray is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = {unit.key: unit for unit in units}
    run = _on_ray if ray else _in_processes if jobs > 1 and len(todo) > 1 else _here
    done: dict[str, UnitResult] = {}
    for unit, result in run(list(todo.values()), folder, ray or jobs):
        done[unit.key] = result
        on_done(unit, result)
    return [done[unit.key] for unit in units]


def unit_folder(unit: Unit, folder: Path) -> Path:
    return folder / unit.key


def _here(units: Sequence[Unit], folder: Path, jobs: object) -> Iterator[tuple[Unit, UnitResult]]:
    for unit in units:
        yield unit, _again(lambda unit=unit: run_unit(unit, unit_folder(unit, folder)), unit)


def _again(run: Callable[[], UnitResult], unit: Unit) -> UnitResult:
    for attempt in range(1, TRIES + 1):
        try:
            return run()
        except Exception as error:
            if attempt == TRIES:
                raise UnitFailed(_failed(unit, error)) from error
            log.warning("%s failed, is tried again: %s: %s", unit.recording.name, type(error).__name__, error)
    raise AssertionError


def _failed(unit: Unit, error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{unit.recording.name} (unit {unit.index}) failed {TRIES} times, the last time with {what}"


def _in_processes(units: Sequence[Unit], folder: Path, jobs: int) -> Iterator[tuple[Unit, UnitResult]]:
    """A process that dies takes the pool with it: what it left undone goes to a new one."""
    left, tries = list(units), dict.fromkeys((unit.key for unit in units), 0)
    while left:
        undone: list[tuple[Unit, BaseException]] = []
        with ProcessPoolExecutor(min(jobs, len(left)), get_context("spawn"), initializer=_start_worker) as pool:
            futures = {pool.submit(run_unit, unit, unit_folder(unit, folder)): unit for unit in left}
            for future in as_completed(futures):
                unit = futures[future]
                try:
                    yield unit, future.result()
                except BrokenProcessPool as error:
                    undone.append((unit, error))
                except Exception as error:
                    undone.append((unit, error))
        for unit, error in undone:
            tries[unit.key] += 1
            if tries[unit.key] == TRIES:
                raise UnitFailed(_failed(unit, error)) from error
            log.warning("%s failed, is tried again: %s: %s", unit.recording.name, type(error).__name__, error)
        left = [unit for unit, _ in undone]


def _start_worker() -> None:
    """Each worker has its core."""
    logging.basicConfig(level=logging.WARNING, format="hsr: %(message)s")
    one_per_process()
    torch.set_num_threads(1)


def _run_alone(unit: Unit, folder: Path) -> UnitResult:
    """A worker of a cluster does not say when it starts."""
    _start_worker()
    return run_unit(unit, folder)


def _on_ray(units: Sequence[Unit], folder: Path, address: str) -> Iterator[tuple[Unit, UnitResult]]:
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("--ray needs Ray: pip install 'hsr-core[ray]'") from error
    own = not ray.is_initialized()
    if own:
        ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=TRIES - 1, retry_exceptions=True)(_run_alone)
        waiting = {remote.remote(unit, unit_folder(unit, folder)): unit for unit in units}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            unit = waiting.pop(ready)
            try:
                yield unit, ray.get(ready)
            except ray.exceptions.RayError as error:
                raise UnitFailed(_failed(unit, error)) from error
    finally:
        if own:
            ray.shutdown()
