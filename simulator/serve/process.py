"""The process around a machine: going into the background, the pid file, signals."""

from __future__ import annotations

import _thread
import os
import signal

from simulator.serve.options import StartError

_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class Daemon:
    """-daemonize: the parent stays until the child says that it is ready, and ends with the child's word
    on it.

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
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        os.write(self._pipe, b"\0")
        os.close(self._pipe)
        self._pipe = -1


class PidFile:
    """The file with our process id, locked while we live and removed at our end (util/oslib-posix.c, 7.2)."""

    def __init__(self, path: str, refusal: str) -> None:
        """`refusal` is what is said when it cannot be made, {path} in it."""
        self._path = path
        self._refusal = refusal
        self._written = ""

    def write(self) -> None:
        """Raises StartError. Does nothing without a path."""
        if not self._path:
            return
        import fcntl

        failure = "cannot create PID file: "
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            told = self._refusal.format(path=self._path)
            raise StartError(f"{failure}{told}: {error.strerror}") from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(f"{failure}Cannot lock pid file: {error.strerror}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._written = os.path.realpath(self._path)

    def remove(self) -> None:
        if self._written:
            try:
                os.unlink(self._written)
            except OSError:
                return


class Signals:
    """What asks us to end. `descriptor` becomes readable with the first; `first` is then (number,
    sender's process id, 0 for the kernel). Later ones are ignored, and SIGPIPE from the start."""

    def __init__(self) -> None:
        self.descriptor, self._write_fd = os.pipe2(os.O_CLOEXEC)
        self.first = 0, 0
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # Only waiting for signals, in a thread of its own, tells who has sent one.
        _thread.start_new_thread(self._wait, ())

    def _wait(self) -> None:
        received = signal.sigwaitinfo(_SIGNALS)
        self.first = received.si_signo, received.si_pid
        os.write(self._write_fd, b"\0")

    def describe(self) -> str:
        """Such as "terminating on signal 15 from pid 4711 (bash)"."""
        number, sender = self.first
        if not sender:
            return f"terminating on signal {number}"
        return f"terminating on signal {number} from pid {sender} ({_program_name(sender)})"


def _program_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return "<unknown process>"


class Terminal:
    """Standard input as a monitor needs it: byte by byte and without the terminal's own echo. Nothing
    happens where it is no terminal. (chardev/char-stdio.c:qemu_chr_set_echo_stdio, 7.2)"""

    def __init__(self) -> None:
        self._saved: list[object] | None = None

    def take(self) -> None:
        if not os.isatty(0):
            return
        import termios

        self._saved = termios.tcgetattr(0)
        mode = termios.tcgetattr(0)
        off = termios.ICRNL | termios.IXON | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.BRKINT
        mode[0] &= ~(off | termios.PARMRK | termios.IGNBRK)
        mode[1] |= termios.OPOST
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        termios.tcsetattr(0, termios.TCSANOW, mode)

    def give_back(self) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSANOW, self._saved)  # type: ignore[arg-type]


def end(status: int) -> int:
    """The exit status; a negative one is a signal, which this process sends itself."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status
