"""Draws scenarios: a few disks, and a list of intents of which steps are made as far as each is possible.

Leaving out an intent leaves a valid scenario, which is how Hypothesis shrinks a failure to a few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from scenarios.explore import intents as i
from scenarios.explore import places
from scenarios.explore.world import BITMAP, GRANULARITY_BYTES, Alive, World
from scenarios.language import steps

DISK_NAMES = ("vda", "vdb", "vdc")
_SLEEP_NS = 1_000_000
_TARGET_CLUSTERS = (None, 512, 4096, 1 << 17, 1 << 21)


class Limits(NamedTuple):
    """What may be drawn. `always` are features that every scenario has, `never` ones that none has.

    `within`: no read crosses an edge of this many bytes, and allocation is not asked for (0: anything goes).
    The snapshot-access of QEMU 7.2 needs that: where a range that the filter has copied ends inside a
    request, it takes that for not copied (util/hbitmap.c:334).
    """

    most_disks: int = 3
    most_intents: int = 24
    within: int = 0
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def limits_for(method: str, **changes: Any) -> Limits:
    """Limits inside which fleecing with that method holds on every machine that is supported."""
    within = places.CLUSTER_BYTES if method == "snapshot-access" else 0
    return Limits(**{"within": within, **changes})


@st.composite
def scenarios(draw: st.DrawFn, method: str, limits: Limits | None = None) -> steps.Scenario:
    """A valid scenario for that method. In the end every point in time is copied once more; taking away what
    is still there is the runner's."""
    limits = limits if limits is not None else limits_for(method)
    optional = [each for each in i.FEATURES if each not in limits.always | limits.never]
    features = limits.always | draw(st.frozensets(st.sampled_from(optional)))
    disks = draw(st.lists(places.disks, min_size=1, max_size=limits.most_disks))
    first = draw(_beginnings(features))
    # Lists are short by themselves; the least length is drawn too, so that it shrinks as well.
    drawn = draw(_lists(features, draw(st.integers(0, limits.most_intents // 2)), limits.most_intents))
    named = dict(zip(DISK_NAMES, disks, strict=False))
    return scenario_of(named, [*first, *drawn], method, limits, aligned="bytes" not in features)


@st.composite
def cuts(draw: st.DrawFn, method: str) -> steps.Scenario:
    """A guest that writes to several disks in turn while one point in time is taken over all of them; then
    each disk is overwritten and the point in time copied."""
    named = dict(zip(DISK_NAMES, draw(st.lists(places.disks, min_size=2, max_size=3)), strict=False))
    write = st.builds(
        i.GuestDoes, st.just("write"), st.integers(0, len(named) - 1), places.spots, st.just(False)
    )
    writes: list[i.Intent] = list(draw(st.lists(write, min_size=2, max_size=4)))
    guest = [*_scratch_made(list(named)[-1], method), *writes * draw(st.integers(5, 40))]
    take = i.Take("a", 0, 0, False, False)
    drawn: list[i.Intent] = [i.Beside([guest, [take]]), *writes, i.CopyAll(0, -1, 1, 1)]
    return scenario_of(named, drawn, method, limits_for(method), name="one point in time for several disks")


def _scratch_made(disk: str, method: str) -> list[i.Intent]:
    """Waits for what comes right before T: the end of the jobs that make a scratch image, one for the file
    and with qcow2 (the overlay's own format) one more to format it."""
    data = {"id": f"a-{disk}-create", "status": "null"}
    made = steps.Step(event=steps.Event(name="JOB_STATUS_CHANGE", data=data))
    return [i.Plain(made)] * (2 if method == "overlay" else 1)


@st.composite
def meetings(draw: st.DrawFn, method: str) -> steps.Scenario:
    """Clients read where the guest is writing, again and again."""
    disk = draw(places.disks)
    kinds = st.sampled_from(["write", "write", "zero", "discard"])
    drawn: list[i.Intent] = [i.GuestDoes("write", 0, places.Spot(0, 0, disk.size), False)]
    drawn.append(i.Take("a", 0, 0, False, False))
    for _ in range(draw(st.integers(1, 6))):
        focus = 0, draw(places.edges)
        read = st.builds(i.ReadSome, st.just(0), st.just(0), places.spots, st.integers(1, 2), st.just(False))
        guest = st.builds(i.GuestDoes, kinds, st.just(0), places.spots, st.booleans())
        reads = draw(st.lists(st.lists(read, min_size=1, max_size=2), min_size=1, max_size=3))
        writes = draw(st.lists(guest, min_size=1, max_size=2))
        lanes: list[list[i.Intent]] = [list(writes)]
        lanes += [list(lane) for lane in reads]
        drawn.append(i.Beside(lanes, focus))
    return scenario_of(
        {DISK_NAMES[0]: disk}, drawn, method, limits_for(method), name="clients read where the guest writes"
    )


@lru_cache(maxsize=256)
def _lists(features: frozenset[str], least: int, most: int) -> st.SearchStrategy[list[i.Intent]]:
    return st.lists(i.intents(features), min_size=least, max_size=most)


@lru_cache(maxsize=256)
def _beginnings(features: frozenset[str]) -> st.SearchStrategy[list[i.Intent]]:
    return i.beginnings(features)


def scenario_of(
    disks: dict[str, steps.Disk],
    drawn: Iterable[i.Intent],
    method: str,
    limits: Limits,
    aligned: bool = True,
    name: str = "generated",
) -> steps.Scenario:
    """The scenario of these intents; one step at least, as a scenario without any is not valid."""
    maker = Maker(World(disks), method, limits, aligned)
    made = [step for intent in drawn for step in maker.made_of(intent)]
    if not maker.world.gone:
        hearing = [name for name, point in maker.world.alive.items() if not point.deaf]
        made += [step for name in hearing for step in maker.look(name)]
        made += [_bitmap_step("remove", disk) for disk in maker.world.dirty]
    methods: list[Any] = [method]
    return steps.Scenario(
        name=name, disks=disks, methods=methods, steps=made or [steps.Step(sleep=steps.Sleep(ns=_SLEEP_NS))]
    )


class Maker:
    """Makes steps of intents, in order, as far as they are possible in the world that the steps before have
    made."""

    def __init__(self, world: World, method: str, limits: Limits, aligned: bool) -> None:
        self.world, self.method, self.limits, self.aligned = world, method, limits, aligned
        self._makers: dict[type, Callable[[Any], list[steps.Step]]] = {
            i.GuestDoes: self._guest,
            i.Take: self._fleece,
            i.ReadSome: self._read,
            i.CopyAll: self._copy,
            i.Ask: self._map,
            i.Finish: self._end,
            i.Beside: self._together,
            i.Other: self._other,
            i.Plain: lambda plain: [plain.step],
        }

    def made_of(self, intent: i.Intent) -> list[steps.Step]:
        return [] if self.world.gone else self._makers[type(intent)](intent)

    # -- what is chosen among
    def _disk(self, number: int) -> str:
        names = list(self.world.disks)
        return names[number % len(names)]

    def _point(self, number: int, hearing: bool = True) -> str | None:
        names = [name for name, point in self.world.alive.items() if not (hearing and point.deaf)]
        return names[number % len(names)] if names else None

    def _part(self, point_number: int, disk_number: int) -> tuple[str, Alive, str] | None:
        name = self._point(point_number)
        if name is None:
            return None
        point = self.world.alive[name]
        return name, point, point.disks[disk_number % len(point.disks)]

    # -- the guest
    def _guest(self, intent: i.GuestDoes) -> list[steps.Step]:
        disk = self._disk(intent.disk)
        if intent.kind == "flush":
            return [steps.Step(guest=steps.Guest(disk=disk, flush=True))]
        at, length = intent.spot.on(self.world.disks[disk].size, self.aligned)
        if intent.kind != "read":
            self.world.written(disk, at, length, surely=intent.kind != "discard")
        request: Any
        if intent.kind == "write":
            request = steps.Write(at=at, length=length)
        elif intent.kind == "zero":
            request = steps.Zero(at=at, length=length, unmap=intent.unmap)
        elif intent.kind == "discard":
            request = steps.Range(at=at, length=length)
        else:
            request = steps.GuestRead(at=at, length=length)
        return [steps.Step(guest=steps.Guest(disk=disk, **{intent.kind: request}))]

    # -- points in time
    def _fleece(self, intent: i.Take) -> list[steps.Step]:
        world = self.world
        if intent.fleece_id in world.alive or intent.fleece_id in world.taken:
            return []
        chosen = [name for bit, name in enumerate(world.disks) if intent.disks >> bit & 1]
        disks = chosen or list(world.disks)
        target, cluster = self._target(intent.target)
        bitmap = BITMAP if intent.bitmap and all(disk in world.dirty for disk in disks) else None
        fleece = steps.Fleece(
            id=intent.fleece_id, disks=disks, bitmap=bitmap, target=target, target_cluster=cluster
        )
        if world.racing:
            # Files are named after ids: another lane's must be another, even for a moment.
            world.taken.add(intent.fleece_id)
        if intent.refused:
            return [steps.Step(fleece=_refused(fleece))]
        world.alive[intent.fleece_id] = world.taken_point(disks, bitmap)
        return [steps.Step(fleece=fleece)]

    def _target(self, number: int) -> tuple[Any, int | None]:
        """(format, cluster bytes) of the scratch image; 0 is the method's own choice."""
        if number == 0:
            return None, None
        if self.method == "snapshot-access" and number == 1:
            return "raw", None
        return "qcow2", _TARGET_CLUSTERS[number % len(_TARGET_CLUSTERS)]

    def _end(self, intent: i.Finish) -> list[steps.Step]:
        name = self._point(intent.point, hearing=False)
        if name is None:
            return []
        point, by = self.world.alive[name], intent.by
        look = self.look(name) if intent.look and not point.deaf and not self.world.racing else []
        if by == "stop-server" and (self.world.racing or point.deaf):
            by = "remove-export-hard"
        del self.world.alive[name]
        if by == "stop-server":
            for other in self.world.alive.values():
                other.deaf = True
        ending: Any = by
        end = steps.Step(end=steps.End(id=name, by=ending))
        return [*look, end]

    def look(self, name: str) -> list[steps.Step]:
        """A copy of all of a point in time, and maps of its bitmap."""
        whole = steps.Step(copy=steps.Copy(source=name, chunk=self.limits.within or i.CHUNKS[0]))
        point = self.world.alive[name]
        return [whole, *(self._bitmap_map(name, disk) for disk in point.disks if point.bitmap is not None)]

    # -- clients
    def _read(self, intent: i.ReadSome) -> list[steps.Step]:
        part = self._part(intent.point, intent.disk)
        if part is None:
            return []
        name, _, disk = part
        at, length = intent.spot.on(self.world.disks[disk].size, False, self.limits.within)
        times = 1 if intent.leave else intent.times
        read = steps.Read(source=name, disk=disk, at=at, length=length, times=times, leave=intent.leave)
        return [steps.Step(read=read)]

    def _copy(self, intent: i.CopyAll) -> list[steps.Step]:
        part = self._part(intent.point, max(intent.disk, 0))
        if part is None:
            return []
        chunk = i.CHUNKS[intent.chunk]
        if self.limits.within and self.limits.within % chunk:
            chunk = self.limits.within
        copy = steps.Copy(
            source=part[0],
            disk=part[2] if intent.disk >= 0 else None,
            chunk=chunk,
            connections=intent.connections,
        )
        return [steps.Step(copy=copy)]

    def _map(self, intent: i.Ask) -> list[steps.Step]:
        part = self._part(intent.point, intent.disk)
        if part is None:
            return []
        name, point, disk = part
        if intent.context != "bitmap":
            if self.limits.within:
                return []
            return [steps.Step(map=steps.Map(source=name, disk=disk, context=intent.context))]
        return [self._bitmap_map(name, disk)] if point.bitmap is not None else []

    def _bitmap_map(self, name: str, disk: str) -> steps.Step:
        expect = self.world.expected_dirty(self.world.alive[name], disk)
        return steps.Step(map=steps.Map(source=name, disk=disk, context=BITMAP, expect=expect))

    # -- several at once
    def _together(self, intent: i.Beside) -> list[steps.Step]:
        lanes: list[list[steps.Step]] = []
        worlds = []
        taken = set(self.world.alive)
        for wanted in intent.lanes:
            world = self.world.lane(taken)
            maker = Maker(world, self.method, self.limits, self.aligned)
            lane = [step for each in wanted for step in maker.made_of(i.focused(each, intent.focus))]
            worlds.append(world)
            if lane:
                lanes.append(lane)
        self.world.joined(worlds)
        if len(lanes) < 2:
            return [step for lane in lanes for step in lane]
        together: list[steps.Step | list[steps.Step]] = [
            lane[0] if len(lane) == 1 else lane for lane in lanes
        ]
        return [steps.Step(together=together)]

    # -- the machine
    def _other(self, intent: i.Other) -> list[steps.Step]:
        what = intent.what
        if what == "sleep":
            return [steps.Step(sleep=steps.Sleep(ns=_SLEEP_NS))]
        if what == "bitmap":
            return self._add_bitmap(self._disk(intent.disk))
        if what == "crash":
            self.world.machine_ended(restarted=True)
            return [steps.Step(crash=steps.Crash())]
        if what.startswith("quit"):
            self.world.machine_ended(restarted=what == "quit")
            return [steps.Step(quit=steps.Quit(restart=what == "quit"))]
        return [steps.Step(qmp=steps.Qmp(execute=what))]

    def _add_bitmap(self, disk: str) -> list[steps.Step]:
        """Added, or emptied where there is one: both begin to record anew."""
        there = disk in self.world.dirty
        self.world.bitmap_emptied(disk)
        if there:
            return [_bitmap_step("clear", disk)]
        return [_bitmap_step("add", disk, granularity=GRANULARITY_BYTES)]


def _refused(fleece: steps.Fleece) -> steps.Fleece:
    """The same with a bitmap that no disk has."""
    return steps.Fleece(
        id=fleece.id,
        disks=fleece.disks,
        bitmap="nobody-has-this",
        target=fleece.target,
        target_cluster=fleece.target_cluster,
        error="not found",
    )


def _bitmap_step(verb: str, disk: str, **more: Any) -> steps.Step:
    arguments = {"node": f"${{{disk}.node}}", "name": BITMAP, **more}
    return steps.Step(qmp=steps.Qmp(execute=f"block-dirty-bitmap-{verb}", arguments=arguments))
