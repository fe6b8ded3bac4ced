"""A machine small enough to be wrong on purpose, and a loop that is not asyncio, for tests of the runner."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import coroutine

from scenarios.backends.interface import (
    Backend,
    DeadlinePassed,
    MachineGone,
    NbdFailed,
    QmpRefused,
    Session,
)

COMMANDS = [
    "blockdev-create",
    "blockdev-add",
    "blockdev-del",
    "blockdev-reopen",
    "blockdev-backup",
    "block-export-add",
    "block-export-del",
    "nbd-server-start",
    "nbd-server-stop",
    "transaction",
    "job-cancel",
    "job-dismiss",
    "query-jobs",
    "query-block-jobs",
    "query-block-exports",
    "query-named-block-nodes",
    "query-status",
    "qom-set",
    "quit",
    "stop",
    "cont",
]


def introspection():
    """As much of query-qmp-schema's reply as overlay asks for."""
    members = {
        "transaction": [("actions", "actions")],
        "blockdev-add": [("driver", "drivers")],
        "blockdev-backup": [("filter-node-name", "str")],
    }
    entries = [
        {"name": name, "meta-type": "command", "arg-type": f"{name}-arg", "ret-type": "any"}
        for name in COMMANDS
    ]
    entries += [
        {
            "name": f"{name}-arg",
            "meta-type": "object",
            "members": [{"name": member, "type": kind} for member, kind in members.get(name, [])],
        }
        for name in COMMANDS
    ]
    entries += [
        {"name": "str", "meta-type": "builtin"},
        {"name": "drivers", "meta-type": "enum", "values": ["file", "qcow2"]},
        {"name": "actions", "meta-type": "array", "element-type": "action"},
        {"name": "action", "meta-type": "object", "members": [{"name": "type", "type": "kinds"}]},
        {"name": "kinds", "meta-type": "enum", "values": ["blockdev-backup"]},
        {"name": "BLOCK_EXPORT_DELETED", "meta-type": "event", "arg-type": "str"},
    ]
    return entries


@coroutine
def give_way():
    yield


class Loop:
    """Round and round."""

    def __init__(self):
        self.now_ns = 0
        self.tasks = deque()

    def run(self, main):
        done = []
        self.tasks.append(self._noting(main, done))
        rounds = 0
        while not done:
            task = self.tasks.popleft()
            rounds += 1
            assert rounds < 200_000, "the scenario does not come to an end"
            try:
                task.send(None)
            except StopIteration:
                continue
            self.tasks.append(task)
        if done[0] is not None:
            raise done[0]

    async def _noting(self, act, done):
        try:
            await act
        except Exception as error:
            done.append(error)
        else:
            done.append(None)

    async def together(self, lanes):
        ends = [[] for _ in lanes]
        self.tasks.extend(self._noting(lane, end) for lane, end in zip(lanes, ends, strict=True))
        while not all(ends):
            await give_way()
        for [error] in ends:
            if error is not None:
                raise error


class SmallGuest:
    largest_request_bytes: int | None = None

    def __init__(self, session, disk):
        self.session, self.disk = session, disk

    async def _go(self):
        await give_way()
        self.session.alive()
        if self.session.fault == "guest-fails":
            raise NbdFailed("EIO")

    async def read(self, offset, length):
        await self._go()
        return bytes(self.session.disks[self.disk][offset : offset + length])

    async def write(self, offset, length, pattern):
        await self._go()
        if self.session.fault != "write-lost":
            self.session.disks[self.disk][offset : offset + length] = bytes([pattern]) * length
        await give_way()

    async def zero(self, offset, length, unmap):
        await self.write(offset, length, 0)

    discard = None

    async def flush(self):
        await self._go()

    async def verify(self, offset, length, pattern):
        return await self.read(offset, length) == bytes([pattern]) * length


class SmallClient:
    flags = 2
    block_sizes = (1, 4096, 1 << 25)

    def __init__(self, session, export):
        self.session, self.export = session, export
        self.size = len(session.content(export))
        self.contexts = {}
        self.contexts = {}
        session.connections += 1

    async def read(self, offset, length):
        await give_way()
        self.session.alive()
        return bytes(self.session.content(self.export)[offset : offset + length])

    async def disconnect(self):
        self.session.connections -= 1

    async def drop(self, after_request=None):
        self.session.connections -= 1


class SmallSession(Session):
    """`fault` names what it does wrong."""

    directory = Path("/nowhere")
    nbd_path = "/nowhere/nbd.sock"
    features = frozenset({"machine", "moves"})

    def __init__(self, loop, scenario, fault):
        self.loop, self.scenario, self.fault = loop, scenario, fault
        self.introspection = []
        self.events, self.commands, self.removed = [], [], []
        self.disks = {name: bytearray(disk.size) for name, disk in scenario.disks.items()}
        self.connections = 0
        self.status = None
        self._start()

    def image_name(self, disk):
        return str(self.directory / f"{disk}.{self.scenario.disks[disk].format}")

    def _start(self):
        self.nodes = {part for name in self.disks for part in (name, f"{name}-file")}
        self.jobs, self.exports, self.frozen, self.backing = {}, {}, {}, {}
        self.nbd_server_running = False

    def alive(self):
        if self.status is not None:
            raise MachineGone("it is gone")

    def content(self, export):
        if export not in self.exports:
            raise NbdFailed("NBD_REP_ERR_UNKNOWN")
        node = self.exports[export]
        disk, content = self.frozen[node]
        return self.disks[disk] if self.fault == "leak" else content

    def raise_event(self, name, **members):
        self.events.append({"event": name, "data": members})

    def job_is(self, job, status):
        self.jobs[job] = status
        self.raise_event("JOB_STATUS_CHANGE", id=job, status=status)
        if status == "null":
            del self.jobs[job]

    async def qmp(self, command, arguments=None):
        await give_way()
        self.alive()
        self.commands.append((command, arguments))
        if self.fault == f"refuse {command}":
            raise QmpRefused("GenericError", "it would rather not")
        if self.fault == f"hang {command}":
            raise DeadlinePassed(f"reply to {command}", 30_000_000_000)
        if self.fault == f"end {command}":
            self.status = -6
            raise QmpRefused("GenericError", "it is about to end")
        if self.fault == f"die {command}":
            self.status = -6
            raise MachineGone("it aborted")
        act = getattr(self, "_" + command.replace("-", "_"), None)
        return (
            act(**{key.replace("-", "_"): value for key, value in (arguments or {}).items()}) if act else None
        ) or {}

    def _blockdev_create(self, job_id, options):
        for status in ("created", "running", "waiting", "pending", "concluded"):
            self.job_is(job_id, status)

    def _job_dismiss(self, id):
        self.job_is(id, "null")

    def _blockdev_add(self, node_name, backing=None, **_):
        self.nodes.add(node_name)
        self.backing[node_name] = backing

    def _blockdev_del(self, node_name):
        if self.fault != "node-left":
            self.nodes.discard(node_name)

    def _transaction(self, actions):
        for action in actions:
            data = action["data"]
            disk = data["device"].split("-layer")[0]
            self.frozen[data["target"]] = disk, bytes(self.disks[disk])
            for status in ("created", "running", "paused", "running"):
                self.job_is(data["job-id"], status)

    def _job_cancel(self, id):
        self.job_is(id, "aborting")
        self.raise_event("BLOCK_JOB_CANCELLED", device=id)
        if self.fault == "job-left":
            self.job_is(id, "null")
            self.jobs[id] = "running"
            return
        self.job_is(id, "concluded")
        self.job_is(id, "null")

    def _nbd_server_start(self, addr):
        self.nbd_server_running = True

    def _nbd_server_stop(self):
        self.nbd_server_running = False
        for export in list(self.exports):
            self._block_export_del(export)

    def _block_export_add(self, id, node_name, **_):
        self.exports[id] = node_name

    def _block_export_del(self, id, mode="safe"):
        del self.exports[id]
        self.raise_event("BLOCK_EXPORT_DELETED", id=id)

    def _query_jobs(self):
        return [{"id": job, "status": status} for job, status in self.jobs.items()]

    def _query_block_jobs(self):
        return []

    def _query_block_exports(self):
        return [{"id": name, "node-name": node} for name, node in self.exports.items()]

    def _query_named_block_nodes(self, **_):
        return [{"node-name": node, "drv": "raw", "file": node} for node in sorted(self.nodes)]

    def _query_status(self):
        looks = [command for command, _ in self.commands if command == "query-status"]
        return {"running": self.fault == "runs at the third look" and len(looks) == 3}

    def _quit(self):
        self.status = 0

    async def hmp(self, line):
        raise QmpRefused("CommandNotFound", "no")

    def printed(self):
        return []

    async def wait_event(self, matches, what, timeout_ns):
        for _ in range(100):
            for each in self.events:
                if matches(each):
                    return each
            await give_way()
        raise DeadlinePassed(what, timeout_ns)

    async def nbd(self, export, contexts=(), hesitate_ns=0):
        await give_way()
        self.alive()
        return SmallClient(self, export)

    async def nbd_transport(self):
        raise NbdFailed("EOF", "a small machine has no sockets")

    async def nbd_raw(self, payload):
        return b""

    async def nbd_exports(self):
        return list(self.exports)

    def guest(self, disk):
        return SmallGuest(self, disk)

    async def put_on_top(self, disk, node_name):
        await self.qmp("qom-set", {"path": disk, "property": "drive", "value": node_name})

    async def serve_storage(self, disk, fault):
        raise AssertionError(f"the small machine has no storage server for {disk}")

    async def tool(self, argv, timeout_ns=0):
        return 0, b"", ""

    def remove_file(self, name):
        self.removed.append(name)

    async def sleep(self, ns):
        self.loop.now_ns += ns
        await give_way()

    async def together(self, lanes):
        await self.loop.together(lanes)

    def now_ns(self):
        return self.loop.now_ns

    async def restart(self):
        self.status = None
        self._start()

    async def kill(self):
        if self.status is None:
            self.status = -9

    async def pause(self, ns):
        await self.sleep(ns)

    async def change_monitor(self):
        pass

    async def wait_end(self, timeout_ns):
        return self.status, "its last words"

    def ended(self):
        return self.status is not None

    async def left_behind(self):
        return [("file", "core", "1 byte")] if self.fault == "file-left" else []

    async def final_image(self, disk):
        content = bytes(self.disks[disk])
        return len(content), lambda offset, length: content[offset : offset + length], 0, ""


class SmallBackend(Backend):
    name = "small"

    def __init__(self, fault=""):
        self.fault = fault

    def probe(self):
        return SmallSession.features, introspection()

    def run(self, scenario, seed, body, fresh=True):
        loop = Loop()
        self.session = SmallSession(loop, scenario, self.fault)
        loop.run(body(self.session))
