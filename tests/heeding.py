"""Children that heed signals although the tests may run where they are ignored: in the background, under nohup."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """For `preexec_fn`: what a shell has set to be ignored is inherited."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
