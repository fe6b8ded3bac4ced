"""Plays a session on a backend: says each step on a monitor of its own, and takes down what comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scenarios.backends.interface import (
    Backend,
    DeadlinePassed,
    MachineGone,
    MonitorWire,
    NbdFailed,
    QmpRefused,
    Session,
)
from scenarios.conformance.normal import Normaliser
from scenarios.conformance.session import PART_OF_THE_STEP_BEFORE, SessionSource, Step
from scenarios.run.content import runs_of

Message = dict[str, Any]

REPLY_NS = 10_000_000_000
# How long a machine is silent before nothing more is waited for.
QUIET_NS = 25_000_000
# The same where a job is on its way, which may wait for the host's disk.
QUIET_WITH_JOB_NS = 250_000_000
# Statuses in which a job can stay for ever.
_AT_REST = frozenset(("paused", "ready", "standby", "pending", "concluded", "null"))
_END_NS = 5_000_000_000
# The same as REPLY_NS of a machine that is not expected to answer.
_HOPELESS_NS = 1_500_000_000
_MOST_MESSAGES = 5000
_INFO_FLAGS = ("read_only", "flush", "fua", "rotational", "trim", "write_zeroes", "df", "multi_conn")


def play(
    source: SessionSource,
    backend: Backend,
    quiet_ns: int = QUIET_NS,
    foreseen: Sequence[Sequence[Message]] | None = None,
    pace: Pace | None = None,
) -> list[list[Message]]:
    """What came of each step, the greeting first, normalised. Shorter than the session where the machine
    ended before. `quiet_ns`: how long it must be silent to be taken to have nothing more to say. `foreseen`:
    what another machine has made of the session; where that one never answered, and once this one has not,
    an answer is not waited for as long. `pace`: noted, or gone by. Raises SetupError."""
    observed: list[list[Message]] = []

    async def body(session: Session) -> None:
        player = _Player(session, quiet_ns)
        hopeless = None if foreseen is None else {n for n, came in enumerate(foreseen) if _is_hung(came)}
        observed.append(await player.greet(source.negotiate))
        for number, step in enumerate(source.steps):
            if pace is not None and not player.ended:
                observed[-1] += await player.keep(pace, number)
            if player.ended:
                return
            if hopeless is not None and (len(observed) in hopeless or _is_hung(observed[-1])):
                player.expect_nothing()
            if step.verb in PART_OF_THE_STEP_BEFORE:
                observed[-1] += await player.wait(step, observed[-1])
            else:
                observed.append(await player.step(step))

    backend.has_watched_monitor = True
    backend.run(source.scenario, 0, body)
    return observed


class Pace:
    """When each step began, in nanoseconds since the first: noted while `lag_ns` is None, and then gone by.
    All but the first are so much earlier then, as what takes a real machine a while takes no virtual time."""

    def __init__(self) -> None:
        self.began_ns: list[int] = []
        self.lag_ns: int | None = None


class _Player:
    def __init__(self, session: Session, quiet_ns: int) -> None:
        self.ended = False
        self._first_ns = 0
        self._reply_ns = REPLY_NS
        self._quiet_ns = quiet_ns
        self._session = session
        self._wire: MonitorWire
        self._normal = Normaliser(str(session.directory))
        self._bytes = b""

    async def greet(self, negotiate: bool) -> list[Message]:
        self._wire = await self._session.watched_monitor()
        messages = await self._until(lambda message: "QMP" in message)
        if negotiate:
            messages += await self._send(b'{"execute": "qmp_capabilities"}\r\n')
        return messages

    def expect_nothing(self) -> None:
        """From now on: a machine that hangs goes on hanging."""
        self._reply_ns = self._session.longest_wait_ns = _HOPELESS_NS

    async def keep(self, pace: Pace, number: int) -> list[Message]:
        """Before the step of that number. What comes while the time for it has not."""
        now_ns = self._session.now_ns()
        if number == 0:
            self._first_ns = now_ns
        if pace.lag_ns is None:
            pace.began_ns.append(now_ns - self._first_ns)
        elif number < len(pace.began_ns):
            early_ns = self._first_ns + pace.began_ns[number] - pace.lag_ns - now_ns
            if early_ns > 0:
                await self._session.sleep(early_ns)
                return await self._take()
        return []

    async def step(self, step: Step) -> list[Message]:
        """All that the monitor said because of a step, and the step's own result, if it has one."""
        if step.verb == "send":
            return await self._send(json.dumps(step.what).encode() + b"\r\n")
        if step.verb == "hmp":
            request = {"execute": "human-monitor-command", "arguments": {"command-line": step.what}}
            return await self._send(json.dumps(request).encode() + b"\r\n")
        if step.verb == "raw":
            self._wire.send(step.what.encode("latin-1"))
            return await self._settled(4)
        return await self._request(step)

    async def wait(self, step: Step, so_far: list[Message]) -> list[Message]:
        """What else the step before it brings, of which `so_far` has come."""
        if step.verb == "sleep":
            await self._session.sleep(step.what)
            return await self._settled()
        wanted, members = step.what["event"], step.what.get("data", {})
        if any(_is_event(message, wanted, members) for message in so_far):
            return []
        return await self._until(lambda message: _is_event(message, wanted, members))

    async def _request(self, step: Step) -> list[Message]:
        """A guest's or an NBD client's request. Its result comes first: it has no place among the events."""
        try:
            act = _guest if step.verb == "guest" else _nbd
            result = await act(self._session, step.what)
        except NbdFailed as error:
            result = {"failed": error.errno_name}
        except QmpRefused as error:
            result = {"failed": str(error)}
        except DeadlinePassed:
            # What never ends may hold all else: some of a guest's requests are made by the monitor.
            self.ended = True
            return [{"result": {"failed": "DeadlinePassed"}}]
        except MachineGone:
            result = {"failed": "MachineGone"}
        return [{"result": self._normal.value(result)}, *await self._settled()]

    # -- the monitor
    async def _send(self, payload: bytes) -> list[Message]:
        self._wire.send(payload)
        return await self._until(lambda message: "return" in message or "error" in message)

    async def _until(self, is_last: Any) -> list[Message]:
        """Messages until the one that is waited for has come and nothing follows."""
        messages: list[Message] = []
        found = False
        until_ns = self._session.now_ns() + self._reply_ns
        while not found and not self.ended:
            remaining_ns = until_ns - self._session.now_ns()
            if remaining_ns <= 0 or not await self._wire.more(remaining_ns):
                messages.append({"silence": True})
                break
            came = await self._take()
            messages += came
            found = any(is_last(message) for message in came)
        return messages + await self._settled(so_far=messages)

    async def _settled(self, times: int = 1, so_far: Sequence[Message] = ()) -> list[Message]:
        """What comes until nothing does for so many quiet times; `so_far` are the step's messages before."""
        quiet_ns = times * self._quiet_ns
        messages = list(so_far)
        while not self.ended and len(messages) < _MOST_MESSAGES:
            wait_ns = max(quiet_ns, QUIET_WITH_JOB_NS) if _job_is_on_its_way(messages) else quiet_ns
            if not await self._wire.more(wait_ns):
                break
            messages += await self._take()
        return messages[len(so_far) :]

    async def _take(self) -> list[Message]:
        self._bytes += self._wire.take()
        *lines, self._bytes = self._bytes.split(b"\n")
        messages = [self._message(line) for line in lines if line.strip()]
        if self._wire.closed and not self.ended:
            self.ended = True
            messages.append({"ended": await self._how_it_ended()})
        return messages

    def _message(self, line: bytes) -> Message:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            # An answer may be nested deeper than Python reads.
            message = None
        if not isinstance(message, dict):
            return {"bytes": line.decode("latin-1")}
        return self._normal.message(message)

    async def _how_it_ended(self) -> Any:
        try:
            status, _ = await self._session.wait_end(_END_NS)
        except DeadlinePassed:
            return "the monitor was closed, and the machine runs on"
        return status


def _is_hung(came: Sequence[Message]) -> bool:
    return {"silence": True} in came or {"result": {"failed": "DeadlinePassed"}} in came


def _job_is_on_its_way(messages: Sequence[Message]) -> bool:
    changes = (each["data"] for each in messages if each.get("event") == "JOB_STATUS_CHANGE")
    last = {change["id"]: change["status"] for change in changes}
    return not _AT_REST.issuperset(last.values())


def _is_event(message: Message, name: str, members: dict[str, Any]) -> bool:
    data = message.get("data", {})
    return message.get("event") == name and all(data.get(key) == value for key, value in members.items())


async def _guest(session: Session, what: dict[str, Any]) -> Any:
    guest = session.guest(what["disk"])
    if "verify" in what:
        # Some ways to a guest only compare.
        return {"equal": await guest.verify(*what["verify"])}
    if "write" in what:
        await guest.write(*what["write"])
    elif "zero" in what:
        offset, length = what["zero"]
        await guest.zero(offset, length, bool(what.get("unmap", False)))
    elif "discard" in what:
        await guest.discard(*what["discard"])
    else:
        await guest.flush()
    return {}


def _told(content: bytes, offset: int) -> Any:
    """[offset, length, byte] of each run of equal bytes, [offset, length, "HEX"] where they differ."""
    return [
        [start, length, value if isinstance(value, int) else value.hex()]
        for start, length, value in runs_of(content, offset)
    ]


async def _nbd(session: Session, what: dict[str, Any]) -> Any:
    if what.get("list"):
        return {"exports": await session.nbd_exports()}
    if "raw" in what:
        return {"bytes": (await session.nbd_raw(bytes.fromhex(what["raw"]))).hex()}
    contexts = _contexts(what)
    client = await session.nbd(what["export"], contexts)
    try:
        if "info" in what:
            flags = [name for bit, name in enumerate(_INFO_FLAGS, 1) if client.flags >> bit & 1]
            told = {"size": client.size, "flags": flags, "blocks": list(client.block_sizes)}
            return {**told, "contexts": sorted(client.contexts)}
        if "map" in what:
            extents = await client.block_status(contexts[0], 0, client.size)
            return {"extents": [list(extent) for extent in extents]}
        if "read" in what:
            offset, length = what["read"]
            return {"content": _told(await client.read(offset, length), offset)}
        if "write" in what:
            offset, length, pattern = what["write"]
            await client.write(offset, bytes((pattern,)) * length)
        elif "zero" in what:
            offset, length = what["zero"]
            await client.zero(offset, length, no_hole=not what.get("unmap", False))
        elif "discard" in what:
            await client.trim(*what["discard"])
        else:
            await client.flush()
        return {}
    finally:
        await client.disconnect()


def _contexts(what: dict[str, Any]) -> Sequence[str]:
    if "map" in what:
        return (what["map"],)
    return tuple(what["info"]) if isinstance(what.get("info"), list) else ()
