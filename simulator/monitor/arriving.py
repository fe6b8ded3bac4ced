"""A guest comes from another machine.

Source: process_incoming_migration_co and _bh, migration/migration.c, and loadvm_postcopy_handle_run_bh,
migration/savevm.c, 7.2.
"""

from __future__ import annotations

from collections import deque

from simulator.block import activity
from simulator.block.errors import QmpError
from simulator.block.tops import tops
from simulator.monitor.migrated_bitmaps import Arrivals
from simulator.wire import migration as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.host import HostListener, HostStream, Receive
    from simulator.machine import Machine

_LOST_IN_POSTCOPY = (
    "qemu-system-x86_64: loadvm failed during postcopy: -5: bitmaps that had not come are lost"
)


class Arrival:
    """Listens, and takes the first who connects, or what a command prints. `status`: MigrationStatus of what
    comes. Raises QmpError."""

    def __init__(self, machine: Machine, address: dict[str, Any]) -> None:
        self._machine, self.address = machine, address
        self.status = "setup"
        self._reader = wire.Reader()
        self._messages: deque[list[Any]] = deque()
        self._bitmaps: Arrivals | None = None
        self._stream: HostStream | None = None
        self._is_working = self._guest_runs = False
        self.is_at_socket = address["type"] != "exec"
        self._listener: HostListener | None = None
        if self.is_at_socket:
            self._listener = machine.host.listen(address, self._accept)
        else:
            self._stream = machine.host.run_command(address["command"], self._receive)
            self._go_to("active")

    def _accept(self, stream: HostStream) -> Receive:
        if self._stream is not None:
            stream.close()
            return _ignore
        self._stream = stream
        self._go_to("active")
        return self._receive

    def _receive(self, payload: bytes) -> None:
        if self.status in ("completed", "failed"):
            return
        was_greeted = self._reader.greeted
        try:
            self._messages += self._reader.receive(payload) if payload else [["gone"]]
            if self._reader.greeted and not was_greeted:
                # Who sends something else may be gone by now, and is to be read to the end.
                self._answer(wire.GREETING)
        except wire.ForeignError as error:
            self._messages.append(["foreign", str(error)])
        if not self._is_working:
            self._is_working = True
            self._machine.spawn(self._work(), "a guest that comes")

    async def _work(self) -> None:
        while self._messages and self.status not in ("completed", "failed"):
            kind, *arguments = self._messages.popleft()
            try:
                await getattr(self, f"_take_{kind}")(*arguments)
            except QmpError as error:
                self._fail(f"{error.desc}\nqemu-system-x86_64: load of migration failed: Invalid argument")
        self._is_working = False

    # -- what comes
    async def _take_bitmap(self, *described: Any) -> None:
        self._known_bitmaps().begin(*described)

    async def _take_bits(self, number: int, areas: list[tuple[int, int]]) -> None:
        self._known_bitmaps().set_bits(number, areas)

    async def _take_complete(self, number: int) -> None:
        self._known_bitmaps().complete(number)

    async def _take_listen(self) -> None:
        self._go_to("postcopy-active")

    async def _take_run(self) -> None:
        await self._let_guest_run("running")
        self._guest_runs = True

    async def _take_end(self, run_state: str) -> None:
        if not self._guest_runs:
            await self._let_guest_run(run_state)
        self._finish()

    async def _take_gone(self) -> None:
        if not self._guest_runs:
            self._fail("load of migration failed: Input/output error")
            return
        self._machine.warn(_LOST_IN_POSTCOPY)
        self._known_bitmaps().lose()
        self._finish()

    async def _take_foreign(self, what: str) -> None:
        self._fail(f"a simulator takes guests from simulators only, and this is {what}")

    def _known_bitmaps(self) -> Arrivals:
        if self._bitmaps is None:
            mapping = self._machine.migration.parameters.get("block-bitmap-mapping")
            self._bitmaps = Arrivals(
                self._machine.graph, mapping, self._machine.version.migration.disabled_arrive_busy
            )
        return self._bitmaps

    # -- what becomes of it
    async def _let_guest_run(self, run_state: str) -> None:
        """It is here; `run_state` is what it was in there. Who may not run leaves its images to `cont`, in
        versions that can (late activation)."""
        machine = self._machine
        runs = run_state == "running" and machine.runs_on_arrival
        if runs or machine.version.migration.activates_early:
            try:
                await activity.activate_all(tops(machine.graph))
            except QmpError as error:
                machine.warn(f"qemu-system-x86_64: {error.desc}")
                runs = False
        self._known_bitmaps().before_guest_runs()
        if runs:
            machine.run_state = "running"
            machine.outbox.emit("RESUME", {})
        else:
            machine.run_state = "paused" if run_state == "running" else run_state

    def _finish(self) -> None:
        self._answer(wire.encode("loaded"))
        self._end("completed")

    def _fail(self, words: str) -> None:
        self._end("failed")
        self._machine.flush_events()
        self._machine.die(1, f"qemu-system-x86_64: {words}")

    def _answer(self, payload: bytes) -> None:
        assert self._stream is not None
        self._stream.send([payload])

    def _end(self, status: str) -> None:
        assert self._stream is not None
        if self._listener is not None:
            self._listener.close()
        self._go_to(status)
        self._stream.close()

    def shut_down(self) -> None:
        """The machine ends in order: what has come of bitmaps is not to be kept."""
        if self._bitmaps is not None and self.status not in ("completed", "failed"):
            self._bitmaps.lose()

    def _go_to(self, status: str) -> None:
        self.status = status
        self._machine.migration.tell(status)


def _ignore(payload: bytes) -> None:
    """One guest comes, from the first who has connected."""
