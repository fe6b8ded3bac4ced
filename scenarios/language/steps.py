"""The scenario language as types: what a spec file decodes into, and nothing else.

Sizes, offsets and lengths are bytes, durations are nanoseconds; the YAML spelling ("64k", "100ms") is turned
into integers by the loader before these types are built. Every struct refuses unknown keys.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from scenarios.language.faults import FAULT_EFFECTS as FAULT_EFFECTS
from scenarios.language.faults import Fault as Fault
from scenarios.language.faults import StorageFault as StorageFault

Format = Literal["raw", "qcow2"]
MethodName = Literal["overlay", "snapshot-access"]
Client = Literal["own", "nbdcopy", "qemu-img"]
Ending = Literal["cancel", "remove-export", "remove-export-hard", "stop-server"]


class Part(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Base of everything in a spec: immutable, compared by value, unknown keys are errors."""


# ---------------------------------------------------------------- disks


class Disk(Part, kw_only=True, frozen=True):
    """One disk of the machine under test; it starts all zeroes.

    `size` need not be a multiple of anything but 512 bytes. `cluster` is the qcow2 cluster size (bytes,
    a power of two from 512 to 2 MiB), QEMU's default of 64 KiB if left out.
    """

    size: int
    format: Format = "qcow2"
    cluster: int | None = None


# ---------------------------------------------------------------- what a guest does


class Write(Part, kw_only=True, frozen=True):
    """Fill [at, at + length) with the byte `pattern`; left out: a byte that no earlier write has used
    (the runner counts 1..255), so that every write can be told apart in what a client reads.

    `times`: that many such writes, each when the one before has returned and right behind it on the disk."""

    at: int
    length: int
    pattern: int | None = None
    times: int = 1


class Zero(Part, kw_only=True, frozen=True):
    """Write zeroes; `unmap` lets the disk deallocate them (NBD_CMD_WRITE_ZEROES without NO_HOLE)."""

    at: int
    length: int
    unmap: bool = False


class Range(Part, kw_only=True, frozen=True):
    at: int
    length: int


class GuestRead(Part, kw_only=True, frozen=True):
    """Read a range; with `pattern`, every byte must have that value. Always checked against the oracle."""

    at: int
    length: int
    pattern: int | None = None


class Guest(Part, kw_only=True, frozen=True):
    """The guest does one thing on one disk: exactly one of write, zero, discard, flush, read.

    `error` expects the request to fail: an errno name such as "EIO", or "any".
    """

    disk: str
    write: Write | None = None
    zero: Zero | None = None
    discard: Range | None = None
    flush: bool = False
    read: GuestRead | None = None
    error: str | None = None


# ---------------------------------------------------------------- points in time and their clients


class Fleece(Part, kw_only=True, frozen=True):
    """One point in time over `disks`, exported over NBD until `end` names its `id`.

    `bitmap` names a dirty bitmap on every one of the disks: the export then offers
    qemu:dirty-bitmap:NAME, frozen at the point in time. `target` chooses the scratch image, and `fault` what
    happens to its storage once it has been made. `on_cbw_error` says who suffers when an old cluster cannot
    be saved: the guest, whose write fails (QEMU's default), or the point in time, which is lost. `room`: its
    scratch images lie on a file system of their own, on which all files together take no more bytes.
    `error` expects the set-up to be refused with an error containing that text; the runner undoes what
    it had done before and the scenario goes on.
    """

    id: str
    disks: list[str]
    bitmap: str | None = None
    target: Format | None = None
    target_cluster: int | None = None
    room: int | None = None
    fault: StorageFault | None = None
    on_cbw_error: Literal["break-guest-write", "break-snapshot"] | None = None
    error: str | None = None

    @property
    def room_name(self) -> str:
        """The directory of that file system, in the machine's own."""
        return f"{self.id}-{self.room}.room"


class Read(Part, kw_only=True, frozen=True):
    """A client reads one range of a point in time over a connection of its own, `times` times.

    `leave`: the client goes away without a word after it sent the request ("mid-read"), so nothing is
    expected back.
    """

    source: str = msgspec.field(name="from")
    disk: str | None = None
    at: int = 0
    length: int
    times: int = 1
    leave: bool = False
    error: str | None = None


class Copy(Part, kw_only=True, frozen=True):
    """A client copies the whole of a point in time (all its disks, or one) and keeps what it read.

    `chunk` is the request size of our own client. `error` expects the copy to fail (text the client prints,
    or an errno name for our own client).
    """

    source: str = msgspec.field(name="from")
    disk: str | None = None
    client: Client = "own"
    connections: int = 1
    chunk: int = 1 << 20
    error: str | None = None


class ExpectedExtent(Part, kw_only=True, frozen=True):
    """One extent of a map: `flags` in words: data, hole, zero, dirty, clean, or depth as a number."""

    at: int
    length: int
    state: str


class Map(Part, kw_only=True, frozen=True):
    """Ask for the extents of a point in time. context: allocation, depth, or the name of the dirty bitmap.

    With `expect`, the extents (neighbours of equal state joined) must be exactly these; without, they must
    tile the disk, and what base:allocation calls zero must read as zero.
    """

    source: str = msgspec.field(name="from")
    disk: str | None = None
    client: Literal["own", "nbdinfo", "qemu-img"] = "own"
    context: str = "allocation"
    expect: list[ExpectedExtent] | None = None


class End(Part, kw_only=True, frozen=True):
    """End a point in time. `by` is what is taken away first; the rest is undone in the right order after
    it."""

    id: str
    by: Ending = "cancel"


# ---------------------------------------------------------------- the machine as a whole


class Sleep(Part, kw_only=True, frozen=True):
    """Let time pass: virtual time on the simulator, host time on real QEMU."""

    ns: int


class Crash(Part, kw_only=True, frozen=True):
    """Kill the machine without warning (SIGKILL). With `restart` it is started again on the same images."""

    restart: bool = True


class Quit(Part, kw_only=True, frozen=True):
    """QMP quit, whatever is going on; with `restart` the machine is started again on the same images. `says`
    is text that its standard error must hold by then."""

    restart: bool = False
    says: str | None = None


class Ends(Part, kw_only=True, frozen=True):
    """The machine ends by itself, with that exit status. `says` as in Quit."""

    status: int
    says: str | None = None


# ---------------------------------------------------------------- raw steps


class ExpectedError(Part, kw_only=True, frozen=True):
    """QMP error: `desc` exactly as QEMU words it, or `contains` a part of it. Both may be left out."""

    class_: str = msgspec.field(name="class", default="GenericError")
    desc: str | None = None
    contains: str | None = None


class Qmp(Part, kw_only=True, frozen=True):
    """One QMP command. Without `error` it must succeed. `returns`: each member given must be equal (lists
    item by item, objects by the members given). `includes`: what returns is a list, and for each of these it
    has one that is equal in that sense, wherever it stands and whatever else there is; so with lists in it,
    too. Strings may hold ${...} names. `within`: it is asked again for so long until it returns that, where
    no event tells."""

    execute: str
    arguments: dict[str, Any] = {}
    returns: Any = msgspec.UNSET
    includes: list[Any] = []
    within: int = 0
    error: ExpectedError | None = None


class Hmp(Part, kw_only=True, frozen=True):
    """One human monitor command; `prints` is text that its answer must contain, `silent` that it must be
    empty."""

    line: str
    prints: str | None = None
    silent: bool = False


class Event(Part, kw_only=True, frozen=True):
    """An event that has come since the last event step of that name, or comes within `within` nanoseconds."""

    name: str
    data: dict[str, Any] = {}
    within: int = 10_000_000_000


Stall = Literal["greeting", "flags", "option", "idle", "request", "replies"]


class Nbd(Part, kw_only=True, frozen=True):
    """A raw NBD session with one export: exactly one of the actions, or none where connecting is to fail.

    `read` with a pattern: every byte must have that value.
    `garbage` is sent as hex right after connecting: the server must close that connection and no other.
    `info` expects members of what negotiation tells (size, read_only, multi_conn, min_block ...).
    `stall`: the client goes so far and no further, and stays connected until the scenario ends: it reads the
    greeting, answers its flags, sends half an option, opens the export and asks for nothing, sends half a
    request, or asks for much and reads no reply. `hesitate`: it goes on so long after the greeting.
    """

    export: str = ""
    hesitate: int = 0
    read: GuestRead | None = None
    write: Write | None = None
    zero: Zero | None = None
    discard: Range | None = None
    flush: bool = False
    garbage: str | None = None
    stall: Stall | None = None
    info: dict[str, Any] | None = None
    exports: list[str] | None = None
    error: str | None = None


class QemuImg(Part, kw_only=True, frozen=True):
    """Run qemu-img with these arguments in the scenario's directory; `status` is its exit status."""

    run: list[str]
    status: int = 0
    prints: str | None = None


# ---------------------------------------------------------------- steps and the spec


class Step(Part, kw_only=True, frozen=True):
    """Exactly one member is set; `line` is where it stands in its file (0: made by a program)."""

    guest: Guest | None = None
    fleece: Fleece | None = None
    read: Read | None = None
    copy: Copy | None = None
    map: Map | None = None
    together: list[Step | list[Step]] | None = None
    end: End | None = None
    sleep: Sleep | None = None
    crash: Crash | None = None
    quit: Quit | None = None
    ends: Ends | None = None
    fault: Fault | None = None
    qmp: Qmp | None = None
    hmp: Hmp | None = None
    event: Event | None = None
    nbd: Nbd | None = None
    qemu_img: QemuImg | None = None
    destination: list[Step] | None = None
    line: int = 0

    @property
    def verb(self) -> str:
        """The name of the one member that is set."""
        for name in VERBS:
            if getattr(self, name) is not None:
                return name
        raise AssertionError("a step without a verb")


VERBS = tuple(name for name in Step.__struct_fields__ if name != "line")


class Destination(Part, kw_only=True, frozen=True):
    """A second machine, which is started like the first and with -incoming defer, so that a guest can come to
    it. Steps on it stand below the verb `destination`.

    It has the same disks, on images that are "fresh" (its own, all zeroes), "copied" (its own, and what
    the guest has written is copied there before it comes) or "shared" (those of the first machine). `leaves`
    is what may be left of it.
    """

    images: Literal["fresh", "copied", "shared"] = "fresh"
    leaves: list[str] = []


class Scenario(Part, kw_only=True, frozen=True):
    """One spec file.

    `methods`: run once with each; empty: once, without one (a spec that has `fleece` steps needs one).
    `needs`: features (see scenarios/run/features.py); a backend that lacks one reports "not applicable: why".
    `leaves`: what may be left: "job:ID", "node:NAME", "export:ID", "bitmap:NODE/NAME", "file:NAME".
    `certificates`: by name, who has signed it: ${certificates}/NAME is a `dir` for tls-creds-x509, for a
    server on localhost and for a client, with the certificate of that authority. Its subject is CN=NAME.
    `attach`: "device" gives each disk a guest device (system emulator) or a writable export (storage daemon);
    "drive" uses -drive if=none,id=DISK as in 2013 (system emulator only); "none": nodes without a guest.
    `incoming`: the machine is started with -incoming defer: it waits for a guest from another machine, its
    nodes are inactive, and it has no guest whose requests could be made. Only when it is first started.
    `destination`: there is a second machine.
    `guest`: who makes the guest's requests: "requests" are handed to the device from outside, "linux" boots a
    Linux whose programs open the disks with O_DIRECT (offsets and lengths are then whole sectors).
    """

    name: str
    source: str = ""
    disks: dict[str, Disk] = {}
    attach: Literal["device", "drive", "none"] = "device"
    incoming: bool = False
    destination: Destination | None = None
    guest: Literal["requests", "linux"] = "requests"
    methods: list[MethodName] = []
    needs: list[str] = []
    leaves: list[str] = []
    certificates: dict[str, str] = {}
    seed: int | None = None
    steps: list[Step] = []
    path: str = ""
