"""Character devices that come and go while the machine runs (chardev/char.c, chardev/char-ringbuf.c, 7.2).

What a command line makes is in serve/chardevs.py, and in the same table of the machine.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.chardev_backends import RingBuffer, make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"


async def chardev_add(machine: Machine, arguments: Arguments) -> Any:
    identifier, backend = arguments["id"], arguments["backend"]
    if identifier in machine.chardevs:
        raise QmpError(f"Chardev with id '{identifier}' already exists")
    try:
        made = machine.chardevs[identifier] = make(machine, backend["type"], backend.get("data", {}))
    except QmpError as error:
        raise error.prefixed(f"Failed to add chardev '{identifier}': ") from None
    return {"pty": made.filename.removeprefix("pty:")} if made.kind == "pty" else {}


async def query_chardev(machine: Machine, arguments: Arguments) -> Any:
    return [
        {"label": label, "filename": each.filename, "frontend-open": each.in_use}
        for label, each in machine.chardevs.in_qom_order()
    ]


async def chardev_remove(machine: Machine, arguments: Arguments) -> Any:
    identifier = arguments["id"]
    found = machine.chardevs.get(identifier)
    if found is None:
        raise QmpError(f"Chardev '{identifier}' not found")
    if found.in_use or found.is_base:
        raise QmpError(f"Chardev '{identifier}' is busy")
    del machine.chardevs[identifier]
    found.close()
    return {}


async def chardev_change(machine: Machine, arguments: Arguments) -> Any:
    """Nobody here who uses one lets it be changed; without a user it is another one of the same name."""
    identifier = arguments["id"]
    if identifier not in machine.chardevs:
        raise QmpError(f"Chardev '{identifier}' does not exist")
    found = machine.chardevs[identifier]
    if found.kind == "mux":
        raise QmpError("Mux device hotswap not supported yet")
    if found.in_use or found.is_base:
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
    ring, text = _ring(machine, arguments["device"]), arguments["data"]
    if arguments.get("format") != "base64":
        ring.write(text.encode())
        return {}
    if text.strip(_BASE64):
        raise QmpError("Base64 data contains invalid characters")
    ring.write(_decoded(text))
    return {}


def _decoded(text: str) -> bytes:
    """Base64 as GLib reads it, which takes padding wherever it is (g_base64_decode_step)."""
    letters = [letter for letter in text if letter not in "\r\n"]
    decoded = b""
    for at in range(0, len(letters) - 3, 4):
        four = letters[at : at + 4]
        value = 0
        for letter in four:
            value = value << 6 | _BASE64.index(letter) % 64
        first, second, third = value.to_bytes(3, "big")
        padded = four[2] == "=", four[3] == "="
        decoded += bytes([first, *[second][padded[0] :], *[third][padded[1] :]])
    return decoded


async def ringbuf_read(machine: Machine, arguments: Arguments) -> Any:
    # Here because it is seldom needed, and imported at start it would cost every machine.
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
    "query-chardev": query_chardev,
    "ringbuf-read": ringbuf_read,
    "ringbuf-write": ringbuf_write,
}
