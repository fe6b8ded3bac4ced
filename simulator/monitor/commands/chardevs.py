"""Character devices that come and go while the machine runs (chardev/char.c, chardev/char-ringbuf.c, 7.2).

Those that nobody connects to; what a command line makes is in serve/chardevs.py, and in the same table of the
machine.
"""

from __future__ import annotations

from os import strerror

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_SILENT = ("null", "testdev")
_RING = ("ringbuf", "memory")
_RING_BYTES = 65536
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"


class SilentChardev:
    """Takes everything and gives nothing."""

    __slots__ = ("in_use",)

    def __init__(self) -> None:
        self.in_use = False

    def close(self) -> None:
        """It holds nothing."""


class RingBuffer(SilentChardev):
    """Keeps the last so many bytes until they are read."""

    __slots__ = ("_kept", "_size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._kept = size, b""

    def write(self, payload: bytes) -> None:
        self._kept = (self._kept + payload)[-self._size :]

    def read(self, most: int) -> bytes:
        read, self._kept = self._kept[:most], self._kept[most:]
        return read


def _made(machine: Machine, kind: str, settings: dict[str, Any]) -> SilentChardev:
    """Raises QmpError."""
    if kind in _RING:
        size = settings.get("size", _RING_BYTES)
        if size.bit_count() != 1:
            raise QmpError("size of ringbuf chardev must be power of two")
        return RingBuffer(size)
    if kind == "file":
        try:
            file = machine.host.open(settings["out"], create=True)
        except OSError as error:
            why = strerror(error.errno or 0)
            raise QmpError(f"Could not open '{settings['out']}': {why}") from None
        if not settings.get("append", False):
            file.truncate(0)
        file.close()
    elif kind not in _SILENT:
        raise QmpError(f"a chardev of type '{kind}' is not simulated")
    return SilentChardev()


async def chardev_add(machine: Machine, arguments: Arguments) -> Any:
    identifier, backend = arguments["id"], arguments["backend"]
    if identifier in machine.chardevs:
        raise QmpError(f"Chardev with id '{identifier}' already exists")
    try:
        machine.chardevs[identifier] = _made(machine, backend["type"], backend.get("data", {}))
    except QmpError as error:
        raise error.prefixed(f"Failed to add chardev '{identifier}': ") from None
    return {}


async def chardev_remove(machine: Machine, arguments: Arguments) -> Any:
    identifier = arguments["id"]
    found = machine.chardevs.get(identifier)
    if found is None:
        raise QmpError(f"Chardev '{identifier}' not found")
    if found.in_use:
        raise QmpError(f"Chardev '{identifier}' is busy")
    del machine.chardevs[identifier]
    found.close()
    return {}


async def chardev_change(machine: Machine, arguments: Arguments) -> Any:
    """Nobody here who uses one lets it be changed; without a user it is another one of the same name."""
    identifier = arguments["id"]
    if identifier not in machine.chardevs:
        raise QmpError(f"Chardev '{identifier}' does not exist")
    if machine.chardevs[identifier].in_use:
        raise QmpError("Chardev user does not support chardev hotswap")
    await chardev_remove(machine, arguments)
    return await chardev_add(machine, arguments)


async def chardev_send_break(machine: Machine, arguments: Arguments) -> Any:
    if arguments["id"] not in machine.chardevs:
        raise QmpError(f"Chardev '{arguments['id']}' not found")
    return {}


def _ring(machine: Machine, identifier: str) -> RingBuffer:
    if identifier not in machine.chardevs:
        raise QmpError(f"Device '{identifier}' not found")
    found = machine.chardevs[identifier]
    if not isinstance(found, RingBuffer):
        raise QmpError(f"{identifier} is not a ringbuf device")
    return found


async def ringbuf_write(machine: Machine, arguments: Arguments) -> Any:
    # Here because it is seldom needed, and imported at start it would cost every machine.
    from base64 import b64decode

    ring, text = _ring(machine, arguments["device"]), arguments["data"]
    if arguments.get("format") != "base64":
        ring.write(text.encode())
        return {}
    if text.strip(_BASE64):
        raise QmpError("Base64 data contains invalid characters")
    whole = len(text) - len(text) % 4
    ring.write(b64decode(text[:whole]))
    return {}


async def ringbuf_read(machine: Machine, arguments: Arguments) -> Any:
    from base64 import b64encode

    ring = _ring(machine, arguments["device"])
    if arguments["size"] <= 0:
        raise QmpError("size must be greater than zero")
    payload = ring.read(arguments["size"])
    return (
        b64encode(payload).decode()
        if arguments.get("format") == "base64"
        else payload.decode(errors="replace")
    )


COMMANDS = {
    "chardev-add": chardev_add,
    "chardev-change": chardev_change,
    "chardev-remove": chardev_remove,
    "chardev-send-break": chardev_send_break,
    "ringbuf-read": ringbuf_read,
    "ringbuf-write": ringbuf_write,
}
