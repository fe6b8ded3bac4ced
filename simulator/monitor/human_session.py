"""A human monitor on a character device: a banner, a prompt, a line, its answer."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from simulator.monitor.hmp.dispatch import run_line

if TYPE_CHECKING:
    from simulator.machine import Machine

_PROMPT = b"(qemu) "


class HumanSession:
    """Bytes in by `receive`, out by `output`. Lines run one at a time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._input = b""
        self._lines: deque[str] = deque()
        self._running = False
        self.closed = False
        triple = machine.version_info()["qemu"]
        number = f"{triple['major']}.{triple['minor']}.{triple['micro']}"
        banner = f"QEMU {number} monitor - type 'help' for more information\r\n"
        self._output: list[bytes] = [banner.encode(), _PROMPT]

    def receive(self, payload: bytes) -> None:
        # What is typed is echoed, as the monitor's own line editor does.
        self._output.append(payload.replace(b"\n", b"\r\n"))
        *lines, self._input = (self._input + payload.replace(b"\r", b"\n")).split(b"\n")
        self._lines.extend(line.decode(errors="replace") for line in lines)
        if self._lines and not self._running:
            self._running = True
            self._machine.spawn(self._run(), "human monitor")

    async def _run(self) -> None:
        while self._lines and not self.closed and not self._machine.gone:
            printed = await run_line(self._machine, self._lines.popleft())
            self._output.append(printed.encode())
            self._output.append(_PROMPT)
        self._running = False

    def output(self) -> bytes:
        payload = b"".join(self._output)
        self._output.clear()
        return payload

    def receive_eof(self) -> None:
        self.closed = True
        self._lines.clear()
