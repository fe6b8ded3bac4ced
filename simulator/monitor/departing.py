"""A guest leaves for another machine.

Source: migration_thread and what it calls, migration/migration.c, 7.2 and 10.0. Of what QEMU sends there are
only the bitmaps here; its memory takes its time all the same.
"""

from __future__ import annotations

from simulator.block import activity
from simulator.block.errors import QmpError
from simulator.block.tops import tops
from simulator.engine.task import Future
from simulator.monitor import migrated_bitmaps
from simulator.wire import migration as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.host import HostStream
    from simulator.machine import Machine

_MEMORY_NS = 10_000_000  # a small guest's memory that is nearly all zeroes, observed with 7.2
_WINDOW_NS = 100_000_000  # BUFFER_DELAY: how long bytes are counted before a rate is known or bounded
_BYTES_PER_MS = 6000  # the rate that this memory then seems to go at, observed with 7.2
_BATCH_NS = 1_000_000
_CHUNK_NS = 4000  # a piece of a bitmap, which goes by a system call of its own; observed with 7.2
_GREETING_NS = 10_000_000_000


class LostError(Exception):
    """The guest cannot leave."""


class Departure:
    """`go` is a task's. `wants_postcopy` and `cancelled` may be set from outside, then `wake`."""

    def __init__(self, machine: Machine, address: dict[str, Any]) -> None:
        self._machine = machine
        self._migration = machine.migration
        self._facts = machine.version.migration
        self._reader = wire.Reader()
        self._woken: Future | None = None
        self._bitmaps: list[migrated_bitmaps.Leaving] = []
        self._why_lost = ""
        self._loaded = self._was_running = self._stopped = False
        self._state_before = machine.run_state
        self._began_ns = machine.scheduler.now_ns
        self._stopped_ns = self._ended_ns = 0
        self.wants_postcopy = self.cancelled = False
        # Whom a command gives it to is not heard.
        self._is_answered = address["type"] != "exec"
        self._stream: HostStream
        if self._is_answered:
            self._stream = machine.host.connect(address, self._receive)
        else:
            self._stream = machine.host.run_command(address["command"], self._receive)

    @property
    def is_over(self) -> bool:
        return self._migration.status in ("cancelled", "completed", "failed")

    def times(self) -> dict[str, int]:
        """What query-migrate tells of them, in milliseconds."""
        now_ns = self._ended_ns or self._machine.scheduler.now_ns
        told = {"total-time": (now_ns - self._began_ns) // 1_000_000, "setup-time": 0}
        if self._migration.status == "active":
            told["expected-downtime"] = 300
        if self._migration.status == "completed":
            told["downtime"] = (self._ended_ns - self._stopped_ns) // 1_000_000
        return told

    # -- from outside
    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result()

    def shut_down(self) -> None:
        """The machine ends in order (migration_shutdown)."""
        self._migration.go_to("cancelling")
        migrated_bitmaps.let_go(self._bitmaps)
        self._stream.close()

    def cancel(self) -> None:
        self.cancelled = True
        self._migration.go_to("cancelling")
        self.wake()

    def _receive(self, payload: bytes) -> None:
        try:
            messages = self._reader.receive(payload) if payload else []
        except wire.ForeignError as error:
            self._why_lost = f"The other side answers with {error}"
        else:
            self._loaded |= ["loaded"] in messages
            if not payload and not self._loaded:
                self._why_lost = "Unable to write to socket: Broken pipe"
        self.wake()

    # -- the task
    async def go(self) -> None:
        try:
            await self._send()
        except (LostError, QmpError) as error:
            await self._fail(error.desc if isinstance(error, QmpError) else str(error))
        finally:
            self._ended_ns = self._machine.scheduler.now_ns

    async def _send(self) -> None:
        migration, machine = self._migration, self._machine
        self._stream.send([wire.GREETING])
        until_ns = machine.scheduler.now_ns + _GREETING_NS
        while self._is_answered and not self._reader.greeted:
            if machine.scheduler.now_ns >= until_ns:
                raise LostError("The other side does not answer: a simulator sends guests to simulators only")
            await self._rest(until_ns - machine.scheduler.now_ns)
        if migration.capabilities.get("dirty-bitmaps"):
            mapping = migration.parameters.get("block-bitmap-mapping")
            self._bitmaps = migrated_bitmaps.collect(machine.graph, mapping)
        migration.go_to("active")
        migration.tell_pass(1)
        for each in self._bitmaps:
            granularity = each.bitmap.granularity_bytes
            self._say("bitmap", each.node_alias, each.alias, granularity, each.enabled, each.persistent)
        await self._rest(_MEMORY_NS)
        while not self._may_complete():
            if self.wants_postcopy:
                await self._post_copy()
                return
            await self._rest(_WINDOW_NS)
        await self._complete()

    def _may_complete(self) -> bool:
        """Whether the rest would go in the time that the guest may stand still for. Before a window has
        passed no rate is known (migration_iteration_run)."""
        pending = sum(each.pending_bits for each in self._bitmaps)
        is_known = self._machine.scheduler.now_ns - self._began_ns >= _WINDOW_NS
        downtime_ms: int = self._migration.parameters["downtime-limit"]
        return not pending or (is_known and pending < _BYTES_PER_MS * downtime_ms)

    async def _complete(self) -> None:
        await self._stop_guest()
        if self._facts.tells_device:
            self._migration.go_to("device")
        for number, each in enumerate(self._bitmaps):
            while each.pending_bits:
                self._send_bits(number, each.next_chunk()[1])
            self._say("complete", number)
        self._migration.tell_pass(2)
        await self._inactivate()
        self._say("end", self._state_before)
        await self._be_done()

    async def _post_copy(self) -> None:
        if not self._facts.tells_device:
            self._migration.go_to("postcopy-active")
        await self._stop_guest()
        if self._facts.tells_device:
            self._migration.go_to("device")
        await self._inactivate()
        if self._facts.tells_device:
            self._migration.go_to("postcopy-active")
        self._say("listen")
        self._say("run")
        try:
            await self._send_behind_guest()
            self._say("end", "")
            await self._be_done()
        except LostError:
            # The guest runs there, or ran there last: it cannot go on here.
            if self._facts.tells_errors:
                self._migration.error = self._why_lost
            self._machine.warn("qemu-system-x86_64: Detected IO failure for postcopy. Migration paused.")
            self._migration.go_to("postcopy-paused")

    async def _send_behind_guest(self) -> None:
        """At most so many bytes in a window as max-postcopy-bandwidth allows, but one piece in any case."""
        sent, window_ends_ns = 0, self._machine.scheduler.now_ns + _WINDOW_NS
        for number, each in enumerate(self._bitmaps):
            pieces = 0
            while each.pending_bits:
                count, areas = each.next_chunk()
                self._send_bits(number, areas)
                sent, pieces = sent + count, pieces + 1
                if pieces * _CHUNK_NS >= _BATCH_NS:
                    await self._rest(pieces * _CHUNK_NS)
                    pieces = 0
                now_ns = self._machine.scheduler.now_ns
                most: int = self._migration.parameters["max-postcopy-bandwidth"]
                if now_ns >= window_ends_ns or (most and sent > most // 10):
                    await self._rest(window_ends_ns - now_ns)
                    sent, window_ends_ns = 0, self._machine.scheduler.now_ns + _WINDOW_NS
            await self._rest(pieces * _CHUNK_NS)
            self._say("complete", number)

    async def _be_done(self) -> None:
        """All has been said. Who has a way back waits until the other side has understood it
        (await_return_path_close_on_source)."""
        capabilities = self._migration.capabilities
        if self._is_answered and (capabilities.get("postcopy-ram") or capabilities.get("return-path")):
            while not self._loaded:
                await self._rest(_GREETING_NS)
        self._stream.close()
        while not self._stream.is_over:
            await self._rest(_BATCH_NS)
        migrated_bitmaps.let_go(self._bitmaps)
        self._ended_ns = self._machine.scheduler.now_ns
        self._migration.go_to("completed")
        self._machine.run_state = "postmigrate"

    async def _stop_guest(self) -> None:
        machine = self._machine
        self._stopped, self._stopped_ns = True, machine.scheduler.now_ns
        self._state_before = machine.run_state
        self._was_running = machine.run_state == "running"
        machine.run_state = "finish-migrate"
        if self._was_running:
            machine.outbox.emit("STOP", {})
        async with machine.graph.drained_all():
            for node in list(machine.graph.nodes.values()):
                await node.flush()

    async def _inactivate(self) -> None:
        """Raises QmpError. Who may be sent off again after a guest has gone does not survive it."""
        graph = self._machine.graph
        nodes = list(graph.nodes.values())
        if not self._facts.refuses_again and any(node.inactive for node in nodes):
            await graph.end_process(-6, "")  # bdrv_inactivate_recurse, block.c, 5.2
        await activity.inactivate_all(tops(graph))

    async def _fail(self, why: str) -> None:
        """The guest stays, and goes on if it ran (the end of migration_completion)."""
        machine = self._machine
        self._stream.close()
        migrated_bitmaps.let_go(self._bitmaps)
        if self._stopped:
            await activity.activate_all(tops(machine.graph))
            machine.run_state = "running" if self._was_running else "postmigrate"
        if self.cancelled:
            self._migration.go_to("cancelled")
        else:
            machine.warn(f"qemu-system-x86_64: {why}")
            is_told = self._facts.tells_errors or why == self._why_lost
            self._migration.fail(why if is_told else "")
        if self._stopped and self._was_running:
            machine.outbox.emit("RESUME", {})

    # -- the stream
    def _say(self, *message: Any) -> None:
        self._stream.send([wire.encode(*message)])

    def _send_bits(self, number: int, areas: list[tuple[int, int]]) -> None:
        if areas:
            self._say("bits", number, areas)

    async def _rest(self, duration_ns: int) -> None:
        """Until so much time has passed, or `wake`. Raises LostError where there is no sense in going on."""
        self._check()
        self._woken = woken = Future("a migration to go on")
        scheduler = self._machine.scheduler
        timer = scheduler.call_at(scheduler.now_ns + duration_ns, self.wake)
        try:
            await woken
        finally:
            timer.cancel()
        self._check()

    def _check(self) -> None:
        if self.cancelled:
            raise LostError("cancelled")
        if self._why_lost:
            raise LostError(self._why_lost)
