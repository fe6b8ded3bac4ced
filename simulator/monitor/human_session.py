"""A human monitor on a character device: a banner, a prompt, a line with its echo, its answer.

Source: monitor/hmp.c and util/readline.c, 7.2, without history and completion.
"""

from __future__ import annotations

from collections import deque

from simulator.monitor.hmp.dispatch import run_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.machine import Machine

_PROMPT = b"(qemu) "
_LONGEST_LINE = 4095
_LONGEST_QUEUE = 8
_BACK, _ERASE_REST = b"\x1b[D", b"\x1b[K"


class HumanSession:
    """Bytes in by `receive`, out by `output`. Lines run one at a time, and what is typed meanwhile waits."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._typed: deque[bytes] = deque()
        self._line = b""
        self._escape = b""
        self._running = False
        self._stalled = False
        self.closed = False
        self.on_line: Callable[[], None] | None = None  # told when a line is typed, before it is run
        triple = machine.version_info()["qemu"]
        number = f"{triple['major']}.{triple['minor']}.{triple['micro']}"
        banner = f"QEMU {number} monitor - type 'help' for more information\r\n"
        self._output: list[bytes] = [banner.encode(), _PROMPT]

    @property
    def wants_input(self) -> bool:
        return len(self._typed) < _LONGEST_QUEUE

    def stall(self, is_stalled: bool) -> None:
        """The client does not take what it is sent, or does so again."""
        self._stalled = is_stalled
        self._begin()

    def receive(self, payload: bytes) -> None:
        self._typed.append(payload)
        self._begin()

    def _begin(self) -> None:
        if self._typed and not self._running and not self._stalled:
            self._running = True
            self._machine.spawn(self._work(), "human monitor")

    async def _work(self) -> None:
        while self._typed and not self.closed and not self._machine.gone:
            payload = self._typed.popleft()
            for position in range(len(payload)):
                line = self._key(payload[position : position + 1])
                if line is not None:
                    if self.on_line is not None:
                        self.on_line()
                    self._output.append((await run_line(self._machine, line)).encode())
                    if self._machine.gone or self.closed:
                        break
                    self._output.append(_PROMPT)
        self._running = False

    def _key(self, key: bytes) -> str | None:
        """One key: what is shown for it, and the line if it is finished."""
        if self._escape:
            self._in_escape(key)
        elif key in b"\r\n":
            line, self._line = self._line, b""
            self._output.append(b"\r\n")
            return line.decode(errors="replace")
        elif key == b"\x1b":
            self._escape = key
        elif key in (b"\x7f", b"\x08"):
            self._show(self._line[:-1])
        elif key >= b" " and len(self._line) < _LONGEST_LINE:
            self._show(self._line + key)
        return None

    def _in_escape(self, key: bytes) -> None:
        """Arrows and the like: ESC [ ... letter, or ESC and one key. They do nothing here."""
        self._escape += key
        if key == b"[" and len(self._escape) == 2:
            return
        if len(self._escape) == 2 or key.isalpha() or key == b"~":
            self._escape = b""

    def _show(self, line: bytes) -> None:
        """Go back to the line's begin and write all of it again."""
        if line != self._line:
            self._output.append(_BACK * len(self._line) + line + _ERASE_REST)
            self._line = line

    def output(self) -> bytes:
        payload = b"".join(self._output)
        self._output.clear()
        return payload

    def receive_eof(self) -> None:
        self.closed = True
        self._typed.clear()
