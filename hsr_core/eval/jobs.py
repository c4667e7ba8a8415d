"""Units on workers: one process, several, or a Ray cluster. Finished units are kept, failed ones tried again."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from queue import SimpleQueue

import torch

from ..errors import ConfigError, DeviceError, HsrError, MissingPackage
from ..threads import one_per_process
from .unit import Unit, UnitResult, run_unit

log = logging.getLogger(__name__)

TRIES = 3
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class NoSpace(HsrError):
    """The disk of the results takes nothing more; finished units are kept."""


class _Ended(HsrError):
    """The run has ended while a unit waited for a process."""


OnDone = Callable[[Unit, UnitResult, bool], None]
_Results = Iterator[tuple[Unit, UnitResult]]


def run_units(
    units: Sequence[Unit],
    folder: Path,
    *,
    jobs: int = 1,
    ray: str = "",
    on_done: OnDone = lambda unit, result, reused: None,
) -> list[UnitResult]:
    """Do all units; return their results in order.

    A unit that failed three times has a result that says so and nothing else; the next run tries it again.

    Args:
        units: Finished ones are read, not done again.
        folder: Each unit has a folder in it, named by its key.
        jobs: Processes on this machine; 1 = this one.
        ray: Address of a Ray cluster that sees the same files, `local` to start one here; "" = none.
        on_done: Called as they finish, with whether they were there already.

    Raises:
        NoSpace: The disk is full.
        MissingPackage: Ray is not installed.
        HsrError: What no other try can mend: settings, files of a model, a package.
    """
    folder = folder.resolve()  # workers of a cluster have another working folder
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, UnitResult] = {}
    todo: dict[str, Unit] = {}
    for unit in units:
        result = UnitResult.load(unit_folder(unit, folder))
        if result is None:
            todo[unit.key] = unit
        else:
            done[unit.key] = result
            on_done(unit, result, True)
    run = _on_ray if ray else _in_processes if jobs > 1 and len(todo) > 1 else _here
    if todo:
        for unit, result in run(list(todo.values()), folder, ray or jobs):
            done[unit.key] = result
            on_done(unit, result, False)
    return [done[unit.key] for unit in units]


def unit_folder(unit: Unit, folder: Path) -> Path:
    return folder / unit.key


def _here(units: Sequence[Unit], folder: Path, jobs: object) -> _Results:
    for unit in units:
        yield unit, _tried(run_unit, unit, folder)


def _tried(run: Callable[[Unit, Path], UnitResult], unit: Unit, folder: Path) -> UnitResult:
    """Return a unit's result, or that of its failure."""
    for attempt in range(1, TRIES + 1):
        try:
            return run(unit, unit_folder(unit, folder))
        except Exception as error:
            _raise_hopeless(error, folder)
            failure = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if attempt < TRIES:
                log.warning("%s failed, is tried again: %s", unit.recording.name, failure)
    return _failed(unit, failure)


def _failed(unit: Unit, failure: str) -> UnitResult:
    part = f"part {unit.index} " if unit.part_s else ""
    return UnitResult.failed(f"{part}failed {TRIES} times, the last time with {failure}")


def _raise_hopeless(error: BaseException, folder: Path) -> None:
    """Raise what another try, or another unit, would meet too."""
    raise_if_full(error, folder)
    if isinstance(error, ImportError):
        raise MissingPackage(f"the installation is not whole: {error}") from error
    if isinstance(error, HsrError) and not isinstance(error, DeviceError):
        raise error


def raise_if_full(error: BaseException, folder: Path) -> None:
    """Raise `NoSpace` where that is the error."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        raise NoSpace(
            f"{folder} cannot be written to ({error.strerror}); what was finished is kept: make room and run it again"
        ) from error


# Processes of this machine


def _in_processes(units: Sequence[Unit], folder: Path, jobs: int) -> _Results:
    """Each process has a thread here that waits for it, so that who dies is known with the unit that it worked on."""
    resource_tracker.ensure_running()  # its start unblocks SIGINT in the thread that starts it
    workers = [_Worker() for _ in range(min(jobs, len(units)))]
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def work(unit: Unit) -> UnitResult:
        worker = free.get()
        try:
            return _tried(worker.run, unit, folder)
        finally:
            free.put(worker)

    threads = ThreadPoolExecutor(len(workers), initializer=_leave_interrupts_to_the_main_thread)
    kill = True
    try:
        futures = {threads.submit(work, unit): unit for unit in units}
        for future in as_completed(futures):
            yield futures[future], future.result()
        kill = False
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end(kill=kill)
        threads.shutdown()


def _leave_interrupts_to_the_main_thread() -> None:
    """Block SIGINT in a thread, and so in the processes that it starts: Ctrl-C reaches all processes of a terminal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


class _Worker:
    """One process for one unit after the other; when it died the next unit gets a new one."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._ended = False

    def run(self, unit: Unit, folder: Path) -> UnitResult:
        try:
            if self._pool is None and not self._ended:
                self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_start_worker)
                self._pid = self._pool.submit(os.getpid).result()
            if self._ended or self._pool is None:
                raise _Ended("ended")
            return self._pool.submit(run_unit, unit, folder).result()
        except BrokenProcessPool as error:
            self._pool, self._pid = None, 0
            if self._ended:
                raise _Ended("ended") from error
            raise RuntimeError("its process was killed, as when memory runs out") from error

    def end(self, *, kill: bool) -> None:
        """Let the process end, or end it."""
        self._ended = True
        if self._pool is None:
            return
        if kill and self._pid:
            with suppress(ProcessLookupError):  # it has died by itself, and nobody has asked it for anything since
                os.kill(self._pid, signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Each worker has its core, and ends with the process that started it."""
    logging.basicConfig(level=logging.WARNING, format="hsr: %(message)s")
    one_per_process()
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody; without this its workers would go on, and write into the next run."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


# Ray


def _run_alone(unit: Unit, folder: Path) -> UnitResult:
    """A worker of a cluster does not say when it starts."""
    _start_worker()
    return run_unit(unit, folder)


def _on_ray(units: Sequence[Unit], folder: Path, address: str) -> _Results:
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("--ray needs Ray: pip install 'hsr-core[ray]'") from error
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {address}: {error}") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=TRIES - 1, retry_exceptions=True)(_run_alone)
        waiting = {remote.remote(unit, unit_folder(unit, folder)): unit for unit in units}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            unit = waiting.pop(ready)
            try:
                yield unit, ray.get(ready)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                _raise_hopeless(cause, folder)
                yield unit, _failed(unit, f"{type(cause).__name__}: {cause}")
    finally:
        if own:
            ray.shutdown()
