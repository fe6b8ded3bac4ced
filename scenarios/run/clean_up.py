"""The end of every run: end what is alive, look for what is left, end the machine, read the disks back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, get_args

from scenarios.backends.interface import DeadlinePassed, MachineGone, NbdFailed, QmpRefused
from scenarios.run import breakpoints
from scenarios.run.content import Run, join, runs_of
from scenarios.run.execution import Execution, NotAsExpectedError, Where, words_of
from scenarios.run.history import FinalImage, Residue, ResidueKind
from scenarios.run.methods.shared import stop_server
from scenarios.run.steps.end import end_point
from scenarios.run.steps.fault import take_out
from scenarios.run.steps.quit import end_machine

_CHUNK_BYTES = 1 << 20


class Leaves:
    """What the spec says may be left; each must be found, or it is itself unexpected."""

    def __init__(self, x: Execution) -> None:
        self.x = x
        self._expected = dict.fromkeys(x.named(x.scenario.leaves), False)
        self.too_much = False

    def found(self, kind: str, name: str, detail: str = "") -> None:
        """Something is left. `too_much` tells whether the spec does not say so."""
        if f"{kind}:{name}" in self._expected:
            self._expected[f"{kind}:{name}"] = True
            return
        self.too_much = True
        now = self.x.history.tick()
        is_kind = kind in get_args(ResidueKind)
        known: ResidueKind = kind if is_kind else "file"  # type: ignore[assignment]
        self.x.history.records.append(Residue(begin=now, end=now, kind=known, name=name, detail=detail))

    def check(self) -> None:
        for entry, was_found in self._expected.items():
            if not was_found:
                self.x.unexpected(Where(verb="leaves"), f"{entry} to be left", "it is not there")


async def clean_up(x: Execution) -> None:
    """Never raises what a machine can do wrong: that becomes records."""
    machines = [Leaves(each) for each in ([x] if x.second is None else [x.second, x])]
    went_wrong = x.stopped
    for leaves in machines:
        await _end(leaves.x, leaves)
    # What has been written to images that both have is there when both are gone.
    for leaves in machines:
        await _look_back(leaves.x, leaves)
        if not went_wrong:
            leaves.check()


async def _end(x: Execution, leaves: Leaves) -> None:
    where = Where()
    for transport in x.stalled:
        transport.close()
    if not x.going:
        await _guarded(x, lambda: breakpoints.let_go(x, where))
    if not x.going and not x.hung:
        await _guarded(x, lambda: _end_points(x))
    if not x.going and not x.hung:
        await _guarded(x, lambda: _observe(x, leaves))
    handed_back = False
    if not (x.going or x.hung or x.stopped or leaves.too_much):
        handed_back = await _hand_back(x, leaves)
    if not x.going and not x.hung and not handed_back:
        await _guarded(x, lambda: end_machine(x, where))
    if not x.session.ended() and not handed_back:
        await x.session.kill()
        x.crashed = True


async def _look_back(x: Execution, leaves: Leaves) -> None:
    for kind, name, detail in await x.session.left_behind():
        leaves.found(kind, name, detail)
    for disk in x.scenario.disks:
        await _final_image(x, disk)


async def _guarded(x: Execution, act: Callable[[], Awaitable[Any]]) -> None:
    try:
        await act()
    except QmpRefused as error:
        x.unexpected(Where(verb="clean-up"), "everything to be taken away", words_of(error))
    except NbdFailed as error:
        x.unexpected(Where(verb="clean-up"), "everything to be taken away", words_of(error))
    except NotAsExpectedError as error:
        x.unexpected(Where(verb="clean-up"), error.wanted, error.got)
    except DeadlinePassed as error:
        await x.missed(Where(verb="clean-up"), error)
    except MachineGone:
        await x.gone(Where(verb="clean-up"))


async def _hand_back(x: Execution, leaves: Leaves) -> bool:
    """Whether the machine goes on for others, and nothing of this scenario is left in it."""
    answers: list[list[tuple[str, str, str]] | None] = []

    async def act() -> None:
        answers.append(await x.session.hand_back())

    await _guarded(x, act)
    for kind, name, detail in answers[0] or () if answers else ():
        leaves.found(kind, name, detail)
    return answers == [[]]


async def _end_points(x: Execution) -> None:
    for server in x.storage.values():
        # Before anything that waits for requests in flight.
        await _guarded(x, server.heal)
    for point in reversed(list(x.points.values())):
        if point.alive and not x.hung:
            await _guarded(x, partial(end_point, x, point, "cancel", Where()))
    for disk in list(x.faults):
        if not x.hung:
            await take_out(x, Where(), disk)
    if x.server_is_ours and x.session.nbd_server_running and not x.hung:
        await stop_server(x, Where())


async def _observe(x: Execution, leaves: Leaves) -> None:
    """What the monitor shows that was not there at the start. Nothing is changed by looking."""
    where = Where()
    jobs: dict[str, str] = {}
    if x.features.has("command:query-jobs"):
        jobs |= {each["id"]: each["status"] for each in await x.qmp(where, "query-jobs")}
    if x.features.has("command:query-block-jobs"):
        jobs |= {each["device"]: each["type"] for each in await x.qmp(where, "query-block-jobs")}
    for job, detail in jobs.items():
        leaves.found("job", job, detail)
    if x.features.has("command:query-block-exports"):
        for export in await x.qmp(where, "query-block-exports"):
            if not x.guest_needs_server or not export["id"].endswith("-guest"):
                leaves.found("export", export["id"], f"of node {export['node-name']}")
    flat = {"flat": True} if x.features.has("argument:query-named-block-nodes.flat") else None
    if x.features.has("command:query-named-block-nodes"):
        for node in await x.qmp(where, "query-named-block-nodes", flat):
            name = node.get("node-name", "")
            if name not in x.started_nodes:
                leaves.found("node", name, f"{node['drv']}: {node['file']}")
            for bitmap in node.get("dirty-bitmaps", ()):
                if "name" in bitmap:  # those without one are what a running job or filter keeps for itself
                    leaves.found("bitmap", f"{name}/{bitmap['name']}")
    if x.session.nbd_server_running and not x.guest_needs_server:
        leaves.found("server", "nbd", "the NBD server still listens")


async def _final_image(x: Execution, disk: str) -> None:
    begin = x.history.tick()
    size, read, status, said = await x.session.final_image(disk)
    x.history.records.append(
        FinalImage(
            begin=begin,
            end=x.history.tick(),
            disk=disk,
            size=size,
            content=_content(size, read),
            check_status=status,
            check_output=said,
            crashed=x.crashed,
        )
    )


def _content(size: int, read: Any) -> list[Run]:
    """All of it; a reader that knows its `data_ranges` is not asked for what lies between them."""
    runs: list[Run] = []
    at = 0
    for offset, length in getattr(read, "data_ranges", lambda: [(0, size)])():
        if offset > at:
            runs.append((at, offset - at, 0))
        at = min(offset + length, size)
        for start in range(offset, at, _CHUNK_BYTES):
            runs += runs_of(read(start, min(_CHUNK_BYTES, at - start)), start)
    if at < size:
        runs.append((at, size - at, 0))
    return join(runs)
