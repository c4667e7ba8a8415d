"""Node processes: started in groups of their own, logged to files, stopped without leftovers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SESSION_NICE = 2
"""Two thirds of the weight of a session that is not nice. With half of it (3) a tenth of the images is lost on a full
computer, with a thirtieth (15 and more) the recorder hardly runs."""
_SHOWN = ("[WARN]", "[ERROR]", "[FATAL]", "Traceback", "WARNING:", "ERROR:")


class NodeProcess:
    """One node as a process.

    Start it from the main thread: the kernel ends the child with the thread that made it.

    Args:
        name: Short name, also of the log file.
        module: Python module to run.
        arguments: Its command line.
        log_dir: Folder of the log file.
        environ: Environment of the process.
    """

    def __init__(
        self, name: str, module: str, arguments: Iterable[str], log_dir: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        command = [sys.executable, "-u", "-m", "hsr.child", str(os.getpid()), module, *arguments]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environ), start_new_session=True
            )
        self._log = self.log_path.open(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def new_lines(self) -> list[str]:
        """Return what was logged since the last call."""
        return self._log.read().splitlines()

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def rss_mb(self) -> float:
        """Return the resident memory [MB]; 0 when the process is gone."""
        return rss_mb(self.pid)

    def cpu_s(self) -> float:
        """Return the processor time used so far [s]; 0 when the process is gone."""
        return cpu_s(self.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def close(self) -> None:
        self._log.close()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process [MB]; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * _PAGE_BYTES / 1e6


def yield_to_other_sessions() -> None:
    """Let other sessions go before this process, where it leads a session of its own (Linux only).

    Where the kernel shares the processor out between sessions (sched_autogroup), the niceness of a thread counts
    only within its own: the nicest thread of one would get as much as all threads of another.
    """
    if os.getsid(0) == os.getpid():  # else others are in it, which it would slow
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(SESSION_NICE))


def worth_showing(line: str) -> bool:
    """True for a warning or an error in a node's log."""
    return any(mark in line for mark in _SHOWN)


def stop_all(processes: Iterable[NodeProcess], patience_s: float = 5.0) -> dict[str, int | None]:
    """Ask, insist, force; return the exit codes by name."""
    processes = list(processes)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        running = [process for process in processes if process.returncode is None]
        for process in running:
            process.signal(number)
        deadline = time.monotonic() + patience_s
        while any(process.returncode is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.02)
    for process in processes:
        process.signal(signal.SIGKILL)  # whatever it started itself and left behind
        process.close()
    return {process.name: process.returncode for process in processes}
