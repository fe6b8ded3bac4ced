"""Draws scenarios with one transaction of backups and bitmap actions, that fails at a drawn place for a drawn
reason.

Everything that a monitor can be asked for is asked right before and right after, for judges/atomicity.py;
then the guest writes on, as what a transaction has left in its way shows there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from scenarios.explore import places
from scenarios.explore.generator import DISK_NAMES
from scenarios.language import steps

QUERIES = ("query-jobs", "query-block-jobs", "query-block-exports", "query-named-block-nodes", "query-block")
KEPT, OFF = "kept", "off"
_SYNCS = ("none", "full", "top")
# Nodes that can be there to back up to, by the beginning of their names, and how many bytes too long each is.
_TARGETS = {"target": 0, "target2": 0, "long": places.SECTOR_BYTES}
_NODES = ("device", "target", "node")

Action = dict[str, Any]


class Failure(NamedTuple):
    """An action that cannot be done; `desc` is a part of QEMU's words for it. `after`: the action has to
    stand after one of this kind, which is put first."""

    desc: str
    action: Action
    after: Action | None = None


def failures(disk: str) -> list[Failure]:
    """On a machine that base_steps have prepared."""
    first = backup(disk, "none")
    again = {**first["data"], "target": f"target2-{disk}"}
    marks = {**first["data"], "sync": "incremental", "bitmap": KEPT}
    return [
        Failure("Transaction aborted using Abort action", {"type": "abort", "data": {}}),
        Failure("Cannot find device=", backup(disk, "none", target="nope")),
        Failure("Cannot find device=", backup("nope", "none", target=f"target-{disk}")),
        Failure("have different sizes", backup(disk, "full", target=f"long-{disk}")),
        Failure("Source and target cannot be the same", backup(disk, "full", target=disk)),
        Failure("in use", _action("blockdev-backup", again), first),
        Failure("Invalid job ID", backup(disk, "full", job_id="1 is no id")),
        Failure("non-negative", backup(disk, "full", speed=-1)),
        Failure("could not be found", backup(disk, "incremental", bitmap="nope")),
        Failure("currently in use", bitmap("clear", disk, KEPT), _action("blockdev-backup", marks)),
        Failure("already exists", bitmap("add", disk, KEPT)),
        Failure("not found", bitmap("clear", disk, "nope")),
        Failure("not found", merge(disk, OFF, [KEPT, "nope"])),
        Failure("power of 2", bitmap("add", disk, "odd", granularity=1000)),
    ]


def _action(kind: str, data: dict[str, Any]) -> Action:
    return {"type": kind, "data": data}


def backup(disk: str, sync: str, **more: Any) -> Action:
    options = {name.replace("_", "-"): value for name, value in more.items()}
    data = {"device": disk, "target": f"target-{disk}", "sync": sync, "job-id": f"job-{disk}", **options}
    return _action("blockdev-backup", data)


def bitmap(verb: str, disk: str, name: str, **more: Any) -> Action:
    return _action(f"block-dirty-bitmap-{verb}", {"node": disk, "name": name, **more})


def merge(disk: str, target: str, sources: list[str]) -> Action:
    data = {"node": disk, "target": target, "bitmaps": sources}
    return _action("block-dirty-bitmap-merge", data)


def possible(disk: str) -> st.SearchStrategy[Action]:
    """What can be done, beside any other of these on the same disk but its backup."""
    return st.one_of(
        st.sampled_from(_SYNCS).map(lambda sync: backup(disk, sync)),
        st.sampled_from(
            [
                bitmap("clear", disk, KEPT),
                bitmap("add", disk, "new"),
                bitmap("disable", disk, KEPT),
                bitmap("enable", disk, OFF),
                merge(disk, OFF, [KEPT]),
                bitmap("remove", disk, OFF),
            ]
        ),
    )


def qmp(command: str, **arguments: Any) -> steps.Step:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return steps.Step(qmp=steps.Qmp(execute=command, arguments=named))


def _write(disk: str, at: int, length: int) -> steps.Step:
    return steps.Step(guest=steps.Guest(disk=disk, write=steps.Write(at=at, length=length)))


def base_steps(disks: dict[str, steps.Disk], spots: list[places.Spot], targets: set[str]) -> list[steps.Step]:
    """Two bitmaps a disk, one of them off, with something in the other; and those of `targets` that are
    nodes."""
    made = []
    for name, disk in disks.items():
        made.append(qmp("block-dirty-bitmap-add", node=name, name=KEPT, granularity=65536))
        made.append(qmp("block-dirty-bitmap-add", node=name, name=OFF, granularity=65536, disabled=True))
        made += [_write(name, *spot.on(disk.size, True)) for spot in spots]
        for prefix, more_bytes in _TARGETS.items():
            if f"{prefix}-{name}" in targets:
                node = {"driver": "null-co", "node_name": f"{prefix}-{name}", "size": disk.size + more_bytes}
                made.append(qmp("blockdev-add", **node, read_zeroes=True))
    return made


def end_steps(disks: dict[str, steps.Disk], spots: list[places.Spot], targets: set[str]) -> list[steps.Step]:
    """The guest goes on where it was, reads all, and what base_steps made is taken away."""
    made = []
    for name, disk in disks.items():
        made += [_write(name, *spot.on(disk.size, True)) for spot in spots]
        read = steps.GuestRead(at=0, length=disk.size)
        made.append(steps.Step(guest=steps.Guest(disk=name, read=read)))
        made += [qmp("block-dirty-bitmap-remove", node=name, name=each) for each in (KEPT, OFF)]
        nodes = [f"{prefix}-{name}" for prefix in _TARGETS]
        made += [qmp("blockdev-del", node_name=node) for node in nodes if node in targets]
    return made


@st.composite
def failing(draw: st.DrawFn) -> steps.Scenario:
    """A transaction that fails. Needs no method."""
    disks = draw(st.lists(places.disks, min_size=1, max_size=len(DISK_NAMES)))
    named = dict(zip(DISK_NAMES, disks, strict=False))
    names = st.sampled_from(list(named))
    # A bitmap that is removed, or added twice, is another failure than the one that is wanted.
    actions = draw(st.lists(names.flatmap(possible), max_size=5, unique_by=_subject))
    failure = draw(names.flatmap(lambda name: st.sampled_from(failures(name))))
    actions = [each for each in actions if not _in_the_way(each, failure)]
    at = draw(st.integers(0, len(actions)))
    before = [failure.after] if failure.after is not None else []
    all_actions = [*before, *actions[:at], failure.action, *actions[at:]]
    targets = {each["data"].get("target", "") for each in all_actions}
    arguments: dict[str, Any] = {"actions": all_actions}
    if draw(st.booleans()) and all(_is_backup(each) for each in all_actions):
        arguments["properties"] = {"completion-mode": "grouped"}
    spots = draw(st.lists(places.spots, min_size=1, max_size=2))
    asks = [steps.Step(qmp=steps.Qmp(execute=query)) for query in QUERIES]
    error = steps.ExpectedError(contains=failure.desc)
    wrong = steps.Step(qmp=steps.Qmp(execute="transaction", arguments=arguments, error=error))
    made = [*base_steps(named, spots, targets), *asks, wrong, *asks, *end_steps(named, spots, targets)]
    return steps.Scenario(name="a transaction that fails changes nothing", disks=named, steps=made)


def _is_backup(action: Action) -> bool:
    return bool(action["type"] == "blockdev-backup")


def _subject(action: Action) -> tuple[Any, ...]:
    """One backup a disk, and one action a bitmap."""
    data = action["data"]
    if _is_backup(action):
        return "backup", data["device"]
    return "bitmap", data["node"], data.get("target", data.get("name"))


def _in_the_way(action: Action, failure: Failure) -> bool:
    """Whether the wanted failure would not be the first one beside this action."""
    both = [each for each in (failure.action, failure.after) if each is not None]
    disks = {each["data"].get(key) for each in both for key in _NODES}
    data = action["data"]
    node = data.get("device", data.get("node"))
    return any(node == disk or f"target-{node}" == disk for disk in disks)
