"""What happened in one run of one scenario: plain records in the order they were made.

Every record that took time has `begin` and `end`: ticks of one logical clock that only ever counts
up, so that "a had returned before b was invoked" is `a.end < b.begin`. `end` is None for what never
returned (a crash, a client that went away). Errors are errno names ("EIO") for block requests and
QEMU's words for commands. Judges read these; nothing else passes between running and judging.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from scenarios.run.content import Run

GuestKind = Literal["write", "zero", "discard", "flush", "read"]
ResidueKind = Literal[
    "job", "node", "export", "bitmap", "connection", "file", "process", "server",
    "drive", "device", "object", "state",
]  # fmt: skip


class Record(msgspec.Struct, kw_only=True, tag=True, omit_defaults=True):
    """`step` is the index path of the step in the spec, such as "4" or "6.1"; "" for the runner's
    own doing."""

    begin: int
    end: int | None = None
    time_ns: int = 0
    step: str = ""
    machine: str = ""  # "destination" for the second one's


class DiskAdded(Record, kw_only=True):
    """A disk exists from here on, all zeroes. size in bytes."""

    disk: str
    size: int


class GuestOp(Record, kw_only=True):
    """A guest's request. `pattern` is the byte written (0 for zero); `content` what a read returned."""

    disk: str
    kind: GuestKind
    offset: int = 0
    length: int = 0
    pattern: int = 0
    error: str | None = None
    content: list[Run] = []


class PointInTime(Record, kw_only=True):
    """T of `fleece_id` lies between begin and end; error: it was refused and does not exist."""

    fleece_id: str
    disks: list[str]
    method: str
    error: str | None = None


class PointEnded(Record, kw_only=True):
    """`by` is what was taken away first, as in language.steps.End; `begin` is when that began."""

    fleece_id: str
    by: str = "cancel"
    error: str | None = None


class ClientRead(Record, kw_only=True):
    """A client's read of a point in time. Content is what it got; an error leaves content empty."""

    fleece_id: str
    disk: str
    client: str
    offset: int
    length: int
    error: str | None = None
    content: list[Run] = []


class ClientMap(Record, kw_only=True):
    """Extents (offset, length, state) as a client saw them; state as in language.steps.ExpectedExtent."""

    fleece_id: str
    disk: str
    client: str
    context: str
    extents: list[tuple[int, int, str]] = []
    error: str | None = None


class QmpExchange(Record, kw_only=True):
    """One command. Exactly one of `returns` and `error` after it returned; neither if it never did."""

    command: str
    arguments: dict[str, Any] = {}
    returns: Any = None
    error_class: str | None = None
    error_desc: str | None = None


class QmpEvent(Record, kw_only=True):
    name: str
    data: dict[str, Any] = {}


class HmpExchange(Record, kw_only=True):
    line: str
    prints: str = ""


class ToolRun(Record, kw_only=True):
    """An external program (qemu-img, nbdcopy, nbdinfo) ran to its end."""

    argv: list[str]
    status: int
    stdout: str = ""
    stderr: str = ""


class FinalImage(Record, kw_only=True):
    """A disk's image after the machine is gone, read through an independent reader. `crashed`: the
    machine's last end was not orderly, so writes that no flush followed may be missing."""

    disk: str
    size: int
    content: list[Run]
    check_status: int
    check_output: str = ""
    crashed: bool = False


class Residue(Record, kw_only=True):
    """Something that is still there after everything ended. Ones the spec lists in `leaves` are not
    recorded."""

    kind: ResidueKind
    name: str
    detail: str = ""


class MachineEnded(Record, kw_only=True):
    """`expected` ends are quit and the scenario's own crash. status < 0: the signal that killed it."""

    expected: bool
    status: int | None
    stderr: str = ""


class Stacks(Record, kw_only=True):
    """What the machine's threads were doing when it died or did not answer: a debugger's words, of several
    lines."""

    text: str


class Missed(Record, kw_only=True):
    """A deadline passed: what was waited for, and how long."""

    waited_for: str
    timeout_ns: int


class Unexpected(Record, kw_only=True):
    """A step's own expectation did not hold."""

    verb: str
    line: int
    wanted: str
    got: str


class Clock(msgspec.Struct):
    now: int = 0


class History(msgspec.Struct):
    """One run. `introspection` is the reply to query-qmp-schema of the machine under test (empty: none);
    `leaves` is what the spec says may be left. `destination`: what happened in the second machine, by the
    same clock. A guest's request stands in the histories of all machines whose disks it is to be found on."""

    scenario: str
    backend: str
    method: str = ""
    seed: int = 0
    records: list[Record] = []
    introspection: list[Any] = []
    leaves: list[str] = []
    clock: Clock = msgspec.field(default_factory=Clock)
    directory: str = ""  # where the machine ran: part of some file names
    destination: History | None = None

    def tick(self) -> int:
        """The next tick of the logical clock."""
        self.clock.now += 1
        return self.clock.now

    def of(self, kind: type[Record]) -> list[Any]:
        """All records of one type, in order."""
        return [record for record in self.records if type(record) is kind]

    def of_both(self) -> list[Record]:
        """Records of both machines in the order of their begins, each once."""
        if self.destination is None:
            return self.records
        here = {id(record) for record in self.records}
        there = [record for record in self.destination.records if id(record) not in here]
        return sorted([*self.records, *there], key=lambda record: record.begin)

    def begin_destination(self) -> History:
        """What happens in a second machine from here on."""
        self.destination = History(
            scenario=self.scenario,
            backend=self.backend,
            method=self.method,
            seed=self.seed,
            introspection=self.introspection,
            clock=self.clock,
            directory=self.directory,
        )
        return self.destination
