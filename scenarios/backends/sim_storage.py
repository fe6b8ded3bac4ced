"""A server of one disk's storage for the in-process simulator: what nbdkit is to a real machine, in virtual
time. Sources: nbdkit's filters delay, pause and rate (filters/rate/bucket.c), 1.32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import errorcode
from typing import TYPE_CHECKING

from scenarios.backends.storage import served_bytes
from scenarios.language.steps import Disk, Fault
from simulator.block.host import HostFile, HostStream
from simulator.block.memory_host import MemoryHost
from simulator.engine.scheduler import Scheduler
from simulator.engine.task import WaitQueue, interleave
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.messages import ExportInfo, Request
from simulator.wire.nbd.server import ServerConnection

if TYPE_CHECKING:
    from simulator.block.host import Receive
    from simulator.wire.nbd.messages import Payload

_FLAGS = (
    nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_FUA | nbd.FLAG_SEND_TRIM
    | nbd.FLAG_SEND_WRITE_ZEROES | nbd.FLAG_SEND_FAST_ZERO
)  # fmt: skip
_KINDS = {
    "read": nbd.CMD_READ,
    "write": nbd.CMD_WRITE,
    "write-zeroes": nbd.CMD_WRITE_ZEROES,
    "discard": nbd.CMD_TRIM,
    "flush": nbd.CMD_FLUSH,
}
_DELAYED = frozenset((nbd.CMD_READ, nbd.CMD_WRITE, nbd.CMD_WRITE_ZEROES, nbd.CMD_TRIM))
_ERRNOS = {name: number for number, name in errorcode.items()}
_SECOND_NS = 1_000_000_000


class Bucket:
    """What may pass at `rate` bytes a second. Full at first, with two seconds' worth; what a request needs is
    counted as time."""

    _CAPACITY_NS = 2 * _SECOND_NS

    def __init__(self, scheduler: Scheduler, rate: int) -> None:
        self._scheduler, self._rate = scheduler, rate
        self._level_ns, self._then_ns = self._CAPACITY_NS, scheduler.now_ns

    async def passed(self, length: int) -> None:
        need_ns = length * _SECOND_NS // self._rate
        while True:
            now_ns = self._scheduler.now_ns
            self._level_ns = min(self._CAPACITY_NS, self._level_ns + now_ns - self._then_ns)
            self._then_ns = now_ns
            if self._level_ns >= need_ns:
                self._level_ns -= need_ns
                return
            need_ns -= self._level_ns
            self._level_ns = 0
            await self._scheduler.sleep(need_ns)


class SimStorage:
    """`StorageServer` on a file in memory."""

    def __init__(
        self, scheduler: Scheduler, host: MemoryHost, path: str, image: str, disk: Disk, fault: Fault
    ) -> None:
        self.scheduler, self._host, self._path = scheduler, host, path
        self.address = {"type": "unix", "path": path}
        self.file: HostFile = host.open(image)
        self.file.truncate(served_bytes(disk.format, disk.size, self.file.size_bytes()))
        self._fault: Fault | None = fault
        self._links: list[_Link] = []
        self._paused = False
        self._resumed = WaitQueue("paused storage to go on")
        self._counted = 0
        rate = fault.rate
        buckets = {kind: Bucket(scheduler, rate) for kind in (nbd.CMD_READ, nbd.CMD_WRITE)} if rate else {}
        self._buckets: dict[int, Bucket] = buckets
        host.servers[path] = self._accept

    def _accept(self, receive: Receive) -> HostStream:
        link = _Link(self, receive)
        self._links.append(link)
        return link

    # -- the fault
    async def strike(self) -> None:
        if self._fault is not None and self._fault.pause:
            self._paused = True
        elif self._fault is not None and self._fault.lost:
            self._drop()

    async def heal(self) -> None:
        if self._fault is not None and self._fault.lost:
            self._fault = None
            self._host.servers[self._path] = self._accept
        self._paused = False
        self._resumed.wake_all()

    async def close(self) -> None:
        self._drop()
        self.file.close()

    def _drop(self) -> None:
        self._host.servers.pop(self._path, None)
        links, self._links = self._links, []
        for link in links:
            link.drop()

    async def before(self, request: Request) -> None:
        """What the fault does to a request. Raises OSError."""
        await interleave()
        while self._paused:
            await self._resumed.wait()
        fault = self._fault
        if fault is None:
            return
        if fault.delay is not None and request.kind in _DELAYED:
            await self.scheduler.sleep(fault.delay)
        bucket = self._buckets.get(request.kind)
        if bucket is not None:
            await bucket.passed(request.length)
        if fault.counts and request.kind == _KINDS[fault.on]:
            self._counted += 1
            if fault.skip < self._counted <= fault.skip + fault.times:
                raise OSError(_ERRNOS[fault.error], fault.error)

    @property
    def tells_holes(self) -> bool:
        """nbdkit's eval plugin, which counts, has none."""
        return self._fault is None or not self._fault.counts


class _Link(HostStream):
    """One connection: as the machine sees it, its own end. Bytes arrive in a turn of their own, both ways."""

    def __init__(self, storage: SimStorage, receive: Receive) -> None:
        self._storage, self._receive = storage, receive
        self._export = ExportInfo("", storage.file.size_bytes(), _FLAGS)
        self._wire = ServerConnection(lambda name: self._export, lambda: [self._export])
        self.closed = self._dropped = False
        self._answer()

    def send(self, buffers: Sequence[Payload]) -> None:
        payload = b"".join(buffers)
        self._soon(lambda: self._take(payload))

    def close(self) -> None:
        self.closed = True

    def drop(self) -> None:
        """The server dies."""
        self._dropped = True
        self._wire.close()
        self._soon(lambda: self._deliver(b""))

    def _soon(self, act: Callable[[], None]) -> None:
        scheduler = self._storage.scheduler
        scheduler.call_at(scheduler.now_ns, act)

    def _take(self, payload: bytes) -> None:
        if self._dropped:
            return
        for event in self._wire.receive_data(payload):
            if isinstance(event, Request):
                self._storage.scheduler.spawn(self._serve(event), "storage request")
        self._answer()

    def _answer(self) -> None:
        output = b"".join(self._wire.take_output())
        if output:
            self._soon(lambda: self._deliver(output))

    def _deliver(self, payload: bytes) -> None:
        if not self.closed:
            self._receive(payload)

    async def _serve(self, request: Request) -> None:
        payload = bytes(request.payload or b"")
        try:
            await self._storage.before(request)
            if not self._dropped:
                self._carry_out(request, payload)
        except OSError as error:
            self._wire.reply_error(request, error.errno or 0)
        self._answer()

    def _carry_out(self, request: Request, payload: bytes) -> None:
        wire, file = self._wire, self._storage.file
        offset, length = request.offset, request.length
        if request.kind == nbd.CMD_READ:
            wire.reply_read(request, [(length, file.read(offset, length))])
            return
        if request.kind == nbd.CMD_BLOCK_STATUS:
            wire.reply_block_status(request, {0: self._extents(offset, length)})
            return
        if request.kind == nbd.CMD_WRITE:
            file.write(offset, payload)
        elif request.kind == nbd.CMD_WRITE_ZEROES:
            file.write_zeroes(offset, length, unmap=not request.flags & nbd.CMD_FLAG_NO_HOLE)
        elif request.kind == nbd.CMD_TRIM:
            file.discard(offset, length)
        wire.reply_done(request)

    def _extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        if not self._storage.tells_holes:
            return [(length, 0)]
        end, is_data = self._storage.file.run_at(offset, offset + length)
        return [(end - offset, 0 if is_data else nbd.STATE_HOLE | nbd.STATE_ZERO)]
