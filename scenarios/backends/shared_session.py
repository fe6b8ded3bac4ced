"""A session whose machine is another's: its host's, a started session without disks.

`move_in` and `hand_back` then stand for the machine's start and its end; see shared_machine.py.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from scenarios.backends.machine_at_rest import Rest, may_change_anything
from scenarios.backends.processes import Process
from scenarios.backends.qmp_link import QmpLink
from scenarios.backends.watched_monitor import WatchedSession
from scenarios.language.steps import Disk, Scenario

Command = tuple[str, dict[str, Any]]


def disk_nodes(name: str, disk: Disk, node_name: str | None = None, suffix: str = "") -> list[dict[str, Any]]:
    """Options of two nodes: the file `name`-file, and the format node on it called `node_name` (or `name`).
    Images are named without a directory: the machine runs in the one that they are in. `suffix`: what their
    names have between disk and format."""
    file = {"driver": "file", "filename": f"{name}{suffix}.{disk.format}", "node-name": f"{name}-file"}
    top = {"driver": disk.format, "file": f"{name}-file", "node-name": node_name or name}
    return [{**file, "discard": "unmap"}, {**top, "discard": "unmap"}]


def start_server(path: str) -> Command:
    """The machine's NBD server, on a socket."""
    return "nbd-server-start", {"addr": {"type": "unix", "data": {"path": path}}}


class SharedSession(WatchedSession):
    """`parked`: of a host, the disks that those who use it will bring. `has_left`: nothing of this scenario
    is in the host's machine any more."""

    _scenario: Scenario
    _child: Process
    _link: QmpLink

    def __init__(self, host: SharedSession | None) -> None:
        self._host = host
        self.parked: Sequence[str] = ()
        self.has_left = False
        self._rest: Rest = Rest(self.qmp) if host is None else host._rest

    @abstractmethod
    def take_event(self, event: dict[str, Any]) -> None:
        """The machine said this."""

    @abstractmethod
    def wake(self) -> None:
        """Whoever waits for events has to look whether the machine has ended."""

    @abstractmethod
    async def forget_guests(self) -> None:
        """Close what reaches the guests; they are made anew when next asked for."""

    @abstractmethod
    def guests_in(self) -> list[Command]:
        """What gives the guest its disks, whose nodes are there, on a shared machine."""

    @abstractmethod
    def guests_out(self) -> list[Command]:
        """The reverse."""

    @property
    def mounts_path(self) -> str:
        return f"{self._child.root_path}{self.directory}"

    async def note_rest(self) -> None:
        """Remember how this machine, which has no disks, is to be found by whoever uses it next."""
        await self._rest.note()

    async def move_in(self) -> None:
        """Take over the host's machine and put this scenario's disks in. Raises what `qmp` raises."""
        assert self._host is not None
        if may_change_anything(self._scenario):
            await self._rest.note_everything(self.introspection)
        self._child, self._link = self._host._child, self._host._link
        self._child.said.clear()
        self._link.on_event = self.take_event
        self._child.ended.add_done_callback(lambda _: self.wake())
        disks = self._scenario.disks.items()
        nodes = [options for name, disk in disks for options in disk_nodes(name, disk)]
        await self.qmp_all([*(("blockdev-add", options) for options in nodes), *self.guests_in()])
        self.events.clear()

    async def hand_back(self) -> list[tuple[str, str, str]] | None:
        if self._host is None:
            return None
        await self.forget_guests()
        nodes = [name + part for name in self._scenario.disks for part in ("", "-file")]
        deletions = (("blockdev-del", {"node-name": node}) for node in nodes)
        await self.qmp_all([*self.guests_out(), *deletions])
        different = await self._rest.differences(may_change_anything(self._scenario))
        self.has_left = not different
        self._link.on_event = self._host.take_event
        return different

    async def qmp_all(self, commands: Sequence[Command]) -> None:
        """In this order, each sent without waiting for the ones before it. Raises what `qmp` raises, once all
        have been answered."""
        answers = await asyncio.gather(*(self.qmp(*each) for each in commands), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
