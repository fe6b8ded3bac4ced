"""A machine without monitors: nodes, jobs and a scheduler, and commands called as functions."""

from __future__ import annotations

from typing import Any

from simulator.block.errors import QmpError
from simulator.block.graph import Graph
from simulator.block.memory_host import MemoryHost
from simulator.block.node import Node
from simulator.engine.chance import Chance
from simulator.engine.outbox import Outbox
from simulator.engine.scheduler import Scheduler
from simulator.jobs.registry import Jobs
from simulator.jobs.rules import JobRules
from simulator.monitor.commands import backup, bitmaps, chains, create, jobs, mirror, transaction

COMMANDS = {
    **backup.COMMANDS,
    **bitmaps.COMMANDS,
    **chains.COMMANDS,
    **create.COMMANDS,
    **jobs.COMMANDS,
    **mirror.COMMANDS,
    **transaction.COMMANDS,
}
MIB = 1 << 20


class Bench:
    """`call` runs a command and all that it sets going; events come out as short strings."""

    def __init__(self, rules: JobRules | None = None) -> None:
        self.scheduler = Scheduler()
        self.host = MemoryHost()
        self.outbox = Outbox(self.scheduler)
        self.graph = Graph(self.scheduler, self.host, Chance(1))
        self.jobs = Jobs(self.graph, self.outbox, rules or JobRules())

    def run(self, coroutine: Any) -> Any:
        task = self.scheduler.spawn(coroutine, "test")
        # Failures are for the caller, who asks for the result.
        while not task.done():
            try:
                self.scheduler.run_until(task)
            except QmpError:
                break
        self.scheduler.run_ready()
        return task.result()

    def call(self, command: str, **arguments: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.run(self.command(command, named))

    async def command(self, command: str, arguments: dict[str, Any]) -> Any:
        """As the monitor runs it."""
        await self.jobs.main_loop_free()
        return await COMMANDS[command](self, arguments)

    def error(self, command: str, **arguments: Any) -> str:
        """The text of the refusal."""
        try:
            self.call(command, **arguments)
        except QmpError as refused:
            return refused.desc
        raise AssertionError(f"{command} was not refused")

    def add(self, name: str, **options: Any) -> Node:
        """blockdev-add; null-co of 1 MiB unless told otherwise."""
        node = self.run(self.graph.open({"driver": "null-co", "size": MIB, "node-name": name, **options}))
        assert isinstance(node, Node)
        node.monitor_owned = True
        return node

    def raw(self, name: str, size_bytes: int = MIB) -> Node:
        """A raw node on a file of its own, all zeroes."""
        self.host.write_all(f"/{name}", b"")
        file = self.host.open(f"/{name}")
        file.truncate(size_bytes)
        file.close()
        return self.add(name, driver="raw", size=None, file={"driver": "file", "filename": f"/{name}"})

    def events(self) -> list[str]:
        """What happened since the last call, such as "j running", "COMPLETED j" or "ERROR j read report"."""
        shown = []
        for name, members, _ in self.outbox.drain():
            if name == "JOB_STATUS_CHANGE":
                shown.append(f"{members['id']} {members['status']}")
            elif name == "BLOCK_JOB_ERROR":
                shown.append(f"ERROR {members['device']} {members['operation']} {members['action']}")
            else:
                job = members.get("device", members.get("id"))
                error = f" ({members['error']})" if "error" in members else ""
                shown.append(f"{name.removeprefix('BLOCK_JOB_')} {job}{error}")
        return shown
