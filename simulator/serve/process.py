"""The process around a machine: going into the background, the pid file, signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from simulator.serve.options import StartError

_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class Daemon:
    """-daemonize: the parent stays until the child says that it is ready, and ends with the child's word on it.

    Source: os-posix.c:os_daemonize, os_setup_post, 7.2.
    """

    def __init__(self) -> None:
        self._pipe = -1

    def fork(self) -> None:
        """Returns in the child only; the parent leaves with status 0 once `ready` was called, else with 1."""
        reading, writing = os.pipe()
        if os.fork():
            os.close(writing)
            word = os.read(reading, 1)
            os._exit(0 if word == b"\0" else 1)
        os.close(reading)
        self._pipe = writing
        os.setsid()
        if os.fork():
            os._exit(0)
        os.umask(0o027)

    def ready(self) -> None:
        """Let the parent go, and leave the terminal behind."""
        if self._pipe < 0:
            return
        os.write(self._pipe, b"\0")
        os.close(self._pipe)
        self._pipe = -1
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)


def write_pid_file(path: str) -> None:
    """Create the file, keep it locked while we live, and put our pid in it (util/oslib-posix.c). Raises StartError."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(f"cannot create PID file: Could not create '{path}': {error.strerror}") from None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StartError("cannot create PID file: Cannot lock pid file: Resource temporarily unavailable") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` (once, from the main loop's thread) when we are asked to end. SIGPIPE is ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop())
