"""The types of what goes wrong: a part of the scenario language, see steps.py."""

from __future__ import annotations

from typing import Literal

import msgspec

FaultyRequest = Literal["read", "write", "write-zeroes", "discard", "flush"]


class StorageFault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What is wrong with an image's storage: `suspend`, `rate`, or, with neither, requests that fail.

    Requests of one kind fail, `times` of them, after `skip` that go through; `error` is the errno that QEMU
    gets from its storage. Only reads and writes can be counted (`skip`).
    `suspend`: the next request of one kind stops before it is made, under this name, until a fault step
    resumes it. QEMU's monitor waits for it, for ever, with any command that needs the disk to be idle or
    changes the block graph, such as taking or ending a point in time: have none of those meanwhile.
    `rate`: so many bytes a second go to and from it, all together; a tenth of a second's worth goes at once.
    """

    on: FaultyRequest = "write"
    error: str = "EIO"
    skip: int = 0
    times: int = 1
    suspend: str | None = None
    rate: int | None = None

    @property
    def effects(self) -> list[str]:
        """Which of the effects that have a member of their own are asked for."""
        given = {name: getattr(self, name, None) for name in FAULT_EFFECTS}
        return [name for name, value in given.items() if value is not None and value is not False]

    @property
    def counts(self) -> bool:
        """Whether it is requests of one kind that fail."""
        return not self.effects


class Fault(StorageFault, kw_only=True, frozen=True):
    """One thing that goes wrong around the machine, or is well again.

    `disk`: something is wrong with the storage of that disk (not with a scratch image: see Fleece.fault),
    until another fault takes its place, `mend`, or the end. One effect: `suspend`, `delay`, `pause`, `rate`,
    `lost` or `mend`, and left out, the next requests fail. `over: nbd`: the storage is put behind an NBD
    server, which is at fault; left out, failing requests and the rate are the machine's own doing. Every read
    and write takes `delay` longer; `rate` bytes a second move, over NBD each way and after the first two
    seconds' worth at once; `pause`: nothing is answered until it is mended; `lost`: the server is gone,
    connection and all, and requests fail at once, or wait for it: no longer than `reconnect`, if given.

    `wait`: until a request is suspended under that name. `resume`: the same, and then it goes on.
    `stop`: the machine's process is stopped for that long and then goes on (SIGSTOP, SIGCONT).
    `monitor`: the client of the QMP monitor is gone without a word, and another one takes over.
    """

    disk: str | None = None
    wait: str | None = None
    resume: str | None = None
    stop: int | None = None
    monitor: Literal["vanish"] | None = None
    over: Literal["nbd"] | None = None
    delay: int | None = None
    pause: bool = False
    lost: bool = False
    reconnect: int | None = None
    mend: bool = False

    @property
    def is_served(self) -> bool:
        """Whether it needs the storage to be behind a server."""
        return self.over is not None or any(name in SERVED_EFFECTS for name in self.effects)


FAULT_EFFECTS = ("suspend", "delay", "pause", "rate", "lost", "mend")
SERVED_EFFECTS = frozenset(("delay", "pause", "lost"))
