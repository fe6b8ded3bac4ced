"""A guest on its way from one simulator to another, as bytes.

The format is the simulator's own: it has no memory and no devices whose state QEMU's would carry, only
bitmaps. So each side greets the other first, and neither takes a stream of QEMU's or gives it one: that
begins with QEMU_MAGIC (migration/savevm.h, 7.2), and QEMU in its turn ends what does not.

    greeting    GREETING, from the machine that the guest leaves, and then from the other
    message     4 bytes of length, big-endian, and so much JSON: a list whose first item says what it is

From the machine that the guest leaves:

    bitmap NODE-ALIAS BITMAP-ALIAS GRANULARITY ENABLED PERSISTENT    numbered from 0 in this order
    bits NUMBER [[OFFSET, LENGTH], ...]                              what is dirty; may come in parts
    complete NUMBER                                                  its bits have all been sent
    listen, run                                                      postcopy: the guest goes on there
    end RUN-STATE                                                    all was sent; "" after `run`

From the other one: loaded.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GREETING = b"goldenfleece guest 1\n"
QEMU_MAGIC = b"QEVM"
_MOST_BYTES = 1 << 26  # in one message


class ForeignError(Exception):
    """The other side speaks something else."""


def encode(*message: Any) -> bytes:
    from json import dumps

    payload = dumps(message).encode()
    return len(payload).to_bytes(4, "big") + payload


class Reader:
    """`greeted`: the other side has said what it is."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.greeted = False

    def receive(self, payload: bytes) -> list[list[Any]]:
        """The messages that are whole by now. Raises ForeignError."""
        from json import loads

        self._buffer += payload
        if not self.greeted:
            self._take_greeting()
        messages: list[list[Any]] = []
        while self.greeted and len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > _MOST_BYTES:
                raise ForeignError(f"a message of {length} bytes")
            if len(self._buffer) < 4 + length:
                break
            messages.append(loads(self._buffer[4 : 4 + length]))
            del self._buffer[: 4 + length]
        return messages

    def _take_greeting(self) -> None:
        seen = bytes(self._buffer[: len(GREETING)])
        if seen == GREETING:
            del self._buffer[: len(GREETING)]
            self.greeted = True
        elif seen[:4] == QEMU_MAGIC:
            raise ForeignError("a stream of QEMU's, with its memory and devices")
        elif not GREETING.startswith(seen):
            raise ForeignError("no stream of a simulator's")
