"""What types cannot say about a spec: ranges inside disks, ids that are alive, names that are known.

Steps are walked in their order, with what exists at each. What another lane of the same `together` makes does
not exist yet; what another lane ends may still be used, since racing with an ending is what such a spec is
for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import UNSET

from scenarios.language import check_faults, check_head, steps
from scenarios.language.check_faults import LONGEST_STOP_NS
from scenarios.language.check_head import NAME, SECTOR_BYTES
from scenarios.language.problems import Place, Problems, nearest
from scenarios.language.scalars import spell_size

LARGEST_REQUEST_BYTES = 32 << 20
ON_DESTINATION = ("crash", "ends", "event", "guest", "hmp", "nbd", "qmp", "quit", "sleep", "together")
LEAST_ROOM_BYTES, MOST_ROOM_BYTES = 4096, 256 << 20


class Point(NamedTuple):
    """A point in time that is alive; `disks` is None if its step is broken."""

    disks: list[str] | None
    bitmap: str | None


class Checker:
    """Checks one decoded spec. `disks`: None for a disk whose own description is broken."""

    def __init__(self, problems: Problems, broken: dict[Place, tuple[str, dict[str, Any]]]) -> None:
        self.problems = problems
        self.broken = broken
        self.disks: dict[str, steps.Disk | None] = {}
        self.has_guest = True
        self.is_drive = self.whole_sectors = False
        self.alive: dict[str, Point] = {}
        self.ended: dict[str, str] = {}
        self.made_at: dict[str, str] = {}
        self.suspended: list[str] = []  # names of requests
        self.gone: str = ""
        # The same of the destination, or, while its steps are checked, of the first machine.
        self.other_gone = ""
        self.has_destination = self.on_destination = False
        # Set when the id of a broken step is not known: then any id may exist.
        self.any_id = False

    def scenario(self, members: dict[str, Any], disks: dict[str, steps.Disk | None]) -> None:
        """`members` of the Scenario that could be decoded; `disks` by name."""
        self.disks = disks
        self.has_guest = members.get("attach") != "none"
        self.is_drive = members.get("attach") == "drive"
        self.whole_sectors = members.get("guest") == "linux"
        self.has_destination = members.get("destination") is not None
        check_head.header(self.problems, members)
        for name, disk in disks.items():
            check_head.disk(self.problems, ("disks", name), name, disk)
        todo = members.get("steps")
        if todo is None:
            return
        self._note_ids(todo, ("steps",))
        self.suspended = check_faults.suspensions(self.problems, _walk(todo, ("steps",)))
        if not todo:
            self.problems.add(("steps",), "expected at least one step: a scenario without any tests nothing")
        if "methods" in members and not members["methods"]:
            first = next(
                (place for place, step in _walk(todo, ("steps",)) if self._is_fleece(place, step)), None
            )
            if first:
                self.problems.add(
                    first, "a spec that fleeces needs methods, such as methods: [overlay, snapshot-access]"
                )
        self._steps(todo, ("steps",))

    def _is_fleece(self, place: Place, step: steps.Step) -> bool:
        return step.fleece is not None or self.broken.get(place, ("",))[0] == "fleece"

    # ------------------------------------------------------------ steps in their order

    def _note_ids(self, todo: list[steps.Step], place: Place) -> None:
        for where, step in _walk(todo, place):
            made = step.fleece.id if step.fleece else None
            if made is not None:
                self.made_at.setdefault(made, self.problems.where(where))

    def _steps(self, todo: list[steps.Step], place: Place) -> None:
        for index, step in enumerate(todo):
            self._one((*place, index), step)

    def _one(self, place: Place, step: steps.Step) -> None:
        if place in self.broken:
            self._broken_step(*self.broken[place])
            return
        verb = next((name for name in steps.VERBS if getattr(step, name) is not None), "")
        if not verb:
            return
        if self.gone and verb not in ("destination", "qemu_img", "sleep"):
            self.problems.add(place, f"there is no machine any more since {self.gone}")
        if self.on_destination and verb not in ON_DESTINATION:
            known = ", ".join(ON_DESTINATION)
            self.problems.add((*place, verb), f"expected one of {known} on the destination")
            return
        getattr(self, f"_{verb}")((*place, verb), getattr(step, verb))

    def _broken_step(self, verb: str, members: dict[str, Any]) -> None:
        name = members.get("id")
        if verb == "fleece" and name is not None:
            self.alive[name] = Point(members.get("disks"), members.get("bitmap"))
        elif verb == "end" and name is not None:
            self.ended[name] = "an earlier step"
            self.alive.pop(name, None)
        elif verb in ("fleece", "end"):
            self.any_id = True

    def _together(self, place: Place, lanes: list[steps.Step | list[steps.Step]]) -> None:
        if not lanes:
            self.problems.add(place, "expected at least one lane")
        alive, ended, gone = dict(self.alive), dict(self.ended), self.gone
        born: dict[str, Point] = {}
        for index, lane in enumerate(lanes):
            self.alive, self.ended, self.gone = dict(alive), dict(ended), ""
            if isinstance(lane, steps.Step):
                self._one((*place, index), lane)
            else:
                self._steps(lane, (*place, index))
            for name in self.alive.keys() - alive.keys():
                if name in born:
                    self.problems.add((*place, index), f'another lane makes the id "{name}" too')
                born[name] = self.alive[name]
            ended, gone = {**ended, **self.ended}, gone or self.gone
        alive = {name: point for name, point in alive.items() if name not in ended}
        self.alive, self.ended, self.gone = {**alive, **born}, ended, gone

    def _destination(self, place: Place, todo: list[steps.Step]) -> None:
        if not self.has_destination:
            self.problems.add(place, "this spec has one machine: expected the member destination in its head")
        if not todo:
            self.problems.add(place, "expected at least one step")
        self.on_destination = True
        self.gone, self.other_gone = self.other_gone, self.gone
        self._steps(todo, place)
        self.gone, self.other_gone = self.other_gone, self.gone
        self.on_destination = False

    # ------------------------------------------------------------ verbs

    def _guest(self, place: Place, guest: steps.Guest) -> None:
        actions = [name for name in ("write", "zero", "discard", "read") if getattr(guest, name) is not None]
        actions += ["flush"] if guest.flush else []
        if len(actions) != 1:
            got = " and ".join(actions) or "none"
            self.problems.add(place, f"expected exactly one of write, zero, discard, flush, read, got {got}")
        if not self.has_guest:
            self.problems.add(place, "the disks have no guest in this spec (attach: none)")
        size = self._size_of((*place, "disk"), guest.disk)
        for name in actions:
            if name != "flush":
                self._request((*place, name), getattr(guest, name), None if guest.error else size)

    def _request(
        self,
        place: Place,
        request: steps.Write | steps.Zero | steps.Range | steps.GuestRead,
        size: int | None,
    ) -> None:
        times = request.times if isinstance(request, steps.Write) else 1
        if times < 1:
            self.problems.add((*place, "times"), f"expected a number from 1, got {times}")
        self._range(place, request.at, request.length * max(times, 1), size)
        if self.whole_sectors and (request.at % SECTOR_BYTES or request.length % SECTOR_BYTES):
            self.problems.add(place, "expected whole sectors of 512 bytes: a Linux guest has no others")

    def _fault(self, place: Place, fault: steps.Fault) -> None:
        check_faults.fault(self.problems, place, fault, self.suspended)
        if fault.disk is not None:
            self._size_of((*place, "disk"), fault.disk)
            if self.is_drive:
                self.problems.add(place, "the storage of a drive cannot be changed (attach: drive)")

    def _fleece(self, place: Place, fleece: steps.Fleece) -> None:
        add = self.problems.add
        if fleece.fault is not None:
            check_faults.storage(self.problems, (*place, "fault"), fleece.fault)
        if not NAME.fullmatch(fleece.id):
            add(
                (*place, "id"),
                f'expected an id of up to 20 letters, digits, - . _ after a letter, got "{fleece.id}"',
            )
        if fleece.id in self.alive and not fleece.error:
            add((*place, "id"), f'"{fleece.id}" is alive already; end it first or take another id')
        if fleece.room is not None and not LEAST_ROOM_BYTES <= fleece.room <= MOST_ROOM_BYTES:
            add(
                (*place, "room"),
                f"expected a size from {spell_size(LEAST_ROOM_BYTES)} to {spell_size(MOST_ROOM_BYTES)}, got "
                f"{spell_size(fleece.room)}: it is a file system in memory",
            )
        if not fleece.disks:
            add((*place, "disks"), "expected at least one disk")
        for index, disk in enumerate(fleece.disks):
            self._size_of((*place, "disks", index), disk)
            if disk in fleece.disks[:index]:
                add((*place, "disks", index), f'"{disk}" stands here twice')
        if fleece.target_cluster is not None:
            check_head.cluster(
                self.problems, (*place, "target_cluster"), fleece.target_cluster, fleece.target
            )
        if not fleece.error:
            self.alive[fleece.id] = Point(fleece.disks, fleece.bitmap)
            self.ended.pop(fleece.id, None)

    def _read(self, place: Place, read: steps.Read) -> None:
        point = self._point((*place, "from"), read.source, read.error)
        size = self._client_size((*place, "disk"), read.disk, point)
        self._range(place, read.at, read.length, None if read.error else size)
        if read.times < 1:
            self.problems.add((*place, "times"), f"expected 1 or more, got {read.times}")

    def _copy(self, place: Place, copy: steps.Copy) -> None:
        self._client_size((*place, "disk"), copy.disk, self._point((*place, "from"), copy.source, copy.error))
        if not 1 <= copy.connections <= 16:
            self.problems.add((*place, "connections"), f"expected 1 to 16, got {copy.connections}")
        if not 1 <= copy.chunk <= LARGEST_REQUEST_BYTES:
            self.problems.add(
                (*place, "chunk"), f"expected at most 32M, what NBD servers take, got {copy.chunk}"
            )

    def _map(self, place: Place, map_: steps.Map) -> None:
        point = self._point((*place, "from"), map_.source, None)
        size = self._client_size((*place, "disk"), map_.disk, point)
        if point and map_.context not in ("allocation", "depth", point.bitmap):
            known = ["allocation", "depth", *([point.bitmap] if point.bitmap else [])]
            self.problems.add(
                (*place, "context"), f'unknown context "{map_.context}", {nearest(map_.context, known)}'
            )
        if map_.expect is not None and map_.disk is None and point and point.disks and len(point.disks) > 1:
            self.problems.add(place, f'"disk" is missing: {map_.source} has {" and ".join(point.disks)}')
        for index, extent in enumerate(map_.expect or []):
            self._range((*place, "expect", index), extent.at, extent.length, size)

    def _end(self, place: Place, end: steps.End) -> None:
        self._point((*place, "id"), end.id, None)
        self.alive.pop(end.id, None)
        self.ended[end.id] = self.problems.where(place[:-1])

    def _sleep(self, place: Place, sleep: steps.Sleep) -> None:
        del place, sleep

    def _crash(self, place: Place, crash: steps.Crash) -> None:
        self._machine_ends(place, crash.restart)

    def _quit(self, place: Place, quit_: steps.Quit) -> None:
        self._machine_ends(place, quit_.restart)

    def _ends(self, place: Place, ends: steps.Ends) -> None:
        if not 0 <= ends.status <= 255:
            self.problems.add((*place, "status"), f"expected an exit status from 0 to 255, got {ends.status}")
        self._machine_ends(place, restart=False)

    def _machine_ends(self, place: Place, restart: bool) -> None:
        where = self.problems.where(place[:-1])
        if not restart:
            self.gone = where
        if self.on_destination:
            return
        self.ended.update(dict.fromkeys(self.alive, where))
        self.alive.clear()

    def _qmp(self, place: Place, qmp: steps.Qmp) -> None:
        answers = {"returns": qmp.returns is not UNSET, "includes": bool(qmp.includes)}
        for name in (name for name, given in answers.items() if given and qmp.error is not None):
            self.problems.add(place, f"expected one of {name} and error, got both")
        if qmp.within and not any(answers.values()):
            self.problems.add((*place, "within"), "expected returns or includes, which it is asked again for")

    def _hmp(self, place: Place, hmp: steps.Hmp) -> None:
        if hmp.silent and hmp.prints is not None:
            self.problems.add(place, "expected one of prints and silent, got both")

    def _event(self, place: Place, event: steps.Event) -> None:
        del place, event

    def _nbd(self, place: Place, nbd: steps.Nbd) -> None:
        given = ("read", "write", "zero", "discard", "garbage", "stall", "info", "exports")
        actions = [name for name in given if getattr(nbd, name) is not None]
        actions += ["flush"] if nbd.flush else []
        if len(actions) != 1 and (actions or not nbd.error):
            got = " and ".join(actions) or "none"
            self.problems.add(place, f"expected exactly one of {', '.join(given)}, flush, got {got}")
        for name in actions:
            if name in ("read", "write", "zero", "discard"):
                request = getattr(nbd, name)
                self._range((*place, name), request.at, request.length, None)
        if not 0 <= nbd.hesitate <= LONGEST_STOP_NS:
            longest = f"{LONGEST_STOP_NS // 10**9}s"
            self.problems.add((*place, "hesitate"), f"expected a time of up to {longest}")
        elif nbd.hesitate and (nbd.garbage is not None or nbd.exports is not None):
            self.problems.add((*place, "hesitate"), "expected a client that opens an export")
        if nbd.garbage is not None:
            try:
                bytes.fromhex(nbd.garbage)
            except ValueError:
                self.problems.add(
                    (*place, "garbage"), f'expected hex digits such as "00ff", got "{nbd.garbage}"'
                )

    def _qemu_img(self, place: Place, qemu_img: steps.QemuImg) -> None:
        if not qemu_img.run:
            self.problems.add(
                (*place, "run"), 'expected the arguments of qemu-img, such as ["info", "vda.qcow2"]'
            )

    # ------------------------------------------------------------ shared

    def _size_of(self, place: Place, name: str) -> int | None:
        """The size of a disk in bytes, None if it is not known; a problem if there is no such disk."""
        if name not in self.disks:
            self.problems.add(place, f'unknown disk "{name}", {nearest(name, self.disks)}')
            return None
        disk = self.disks[name]
        return disk.size if disk else None

    def _point(self, place: Place, name: str, error: str | None) -> Point | None:
        """The point in time of that id. With an error expected, one that has ended will do as well."""
        if name in self.alive or self.any_id:
            return self.alive.get(name)
        if name in self.ended:
            if not error:
                self.problems.add(place, f'"{name}" was ended by {self.ended[name]}')
        elif name in self.made_at:
            self.problems.add(place, f'"{name}" does not exist here yet: {self.made_at[name]} makes it')
        else:
            self.problems.add(place, f'unknown fleece id "{name}", {nearest(name, self.made_at)}')
        return None

    def _client_size(self, place: Place, disk: str | None, point: Point | None) -> int | None:
        """The size of the disk that a client reads: the smallest of them all if it reads each."""
        if disk is not None:
            size = self._size_of(place, disk)
            if point and point.disks is not None and disk in self.disks and disk not in point.disks:
                self.problems.add(
                    place, f'"{disk}" is not in this point in time, {nearest(disk, point.disks)}'
                )
            return size
        known = [self.disks.get(name) for name in (point.disks or [] if point else [])]
        return min((found.size for found in known if found), default=None)

    def _range(self, place: Place, at: int, length: int, size: int | None) -> None:
        """`size` None: where the disk ends is not known, or the request is meant to fail."""
        if at < 0:
            self.problems.add((*place, "at"), f"expected an offset of 0 or more, got {at}")
        if length <= 0:
            self.problems.add((*place, "length"), f"expected a length of at least 1 byte, got {length}")
        elif size is not None and at >= 0 and at + length > size:
            ends = f"the disk ends at {spell_size(size)}, this range at {spell_size(at + length)}"
            self.problems.add((*place, "length"), f"expected a range inside the disk: {ends}")


def _walk(todo: list[steps.Step], place: Place) -> list[tuple[Place, steps.Step]]:
    """All steps with their places, those inside `together` too."""
    found: list[tuple[Place, steps.Step]] = []
    for index, step in enumerate(todo):
        here = (*place, index)
        found.append((here, step))
        for number, lane in enumerate(step.together or []):
            inner = (*here, "together", number)
            if isinstance(lane, steps.Step):
                found.append((inner, lane))
                found.extend(_walk(_nested(lane), (*inner, "together")))
            else:
                found.extend(_walk(lane, inner))
    return found


def _nested(step: steps.Step) -> list[steps.Step]:
    return [lane for lane in step.together or [] if isinstance(lane, steps.Step)]
