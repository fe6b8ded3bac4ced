"""Moves of bitmaps, jobs and transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scenarios.conformance.drawn import images
from scenarios.conformance.drawn.world import Arguments, World

_BITMAP_VERBS = ("add", "add", "remove", "clear", "enable", "disable", "merge")
# A transaction that rolls back the other two of a bitmap that is not there is the end of every QEMU.
_BITMAP_ACTIONS = ("add", "add", "remove", "clear", "merge")


def _bitmap_action(world: World, verbs: Sequence[str] = _BITMAP_ACTIONS) -> tuple[str, Arguments]:
    verb = world.one(verbs)
    node, name = world.bitmap()
    arguments: Arguments = {"node": node, "name": name}
    if verb == "add":
        options = {"granularity": (512, 65536, 65536, 1000), "persistent": (True,), "disabled": (True,)}
        arguments |= world.some(options, 0.25)
        if (node, name) not in world.bitmaps:
            world.bitmaps.append((node, name))
    elif verb == "merge":
        sources = [world.bitmap() for _ in range(world.one((1, 1, 2)))]
        drawn = [one[1] if world.chance(0.6) else {"node": one[0], "name": one[1]} for one in sources]
        arguments = {"node": node, "target": name, "bitmaps": drawn}
    return f"block-dirty-bitmap-{verb}", arguments


def change_bitmap(world: World) -> None:
    world.send(*_bitmap_action(world, _BITMAP_VERBS))


_JOB_ENDS = {"auto-finalize": (False, True), "auto-dismiss": (False, True)}


def _backup(world: World) -> tuple[str, Arguments]:
    sync = world.one(("full", "none", "none", "top", "incremental", "bitmap"))
    arguments = {"job-id": world.new_job(), "device": world.node(), "target": world.node(), "sync": sync}
    options = {
        "bitmap": (world.bitmap()[1],),
        "bitmap-mode": ("on-success", "never", "always"),
        "filter-node-name": ("filter",),
        "compress": (True,),
        **_JOB_ENDS,
    }
    arguments |= world.some(options, 0.5 if sync in ("incremental", "bitmap") else 0.12)
    return "blockdev-backup", arguments


def _snapshot(world: World) -> tuple[str, Arguments]:
    return "blockdev-snapshot", {"node": world.node(), "overlay": world.node()}


def backup(world: World) -> None:
    world.send(*_backup(world))


def snapshot(world: World) -> None:
    world.send(*_snapshot(world))


def mirror(world: World) -> None:
    arguments = {
        "job-id": world.new_job(),
        "device": world.node(),
        "target": world.node(),
        "sync": world.one(("full", "top", "none")),
    }
    options = {"copy-mode": ("background", "write-blocking"), "filter-node-name": ("filter",), **_JOB_ENDS}
    world.send("blockdev-mirror", arguments | world.some(options, 0.12))


def stream(world: World) -> None:
    options = {"base-node": (world.node(),), "filter-node-name": ("filter",), **_JOB_ENDS}
    world.send("block-stream", {"job-id": world.new_job(), "device": world.node(), **world.some(options)})


def commit(world: World) -> None:
    options = {"top-node": (world.node(),), "base-node": (world.node(),), **_JOB_ENDS}
    world.send(
        "block-commit", {"job-id": world.new_job(), "device": world.node(), **world.some(options, 0.4)}
    )


def steer_job(world: World) -> None:
    verb = world.one(("pause", "resume", "cancel", "cancel", "complete", "finalize", "dismiss"))
    if world.chance(0.7):
        world.send(f"job-{verb}", {"id": world.job()})
        return
    named = {"device": world.job()} if verb not in ("finalize", "dismiss") else {"id": world.job()}
    force = {"force": True} if verb == "cancel" and world.chance(0.3) else {}
    world.send(f"block-job-{verb}", {**named, **force})


def set_job(world: World) -> None:
    """What of a job changes while it runs."""
    if world.chance(0.6):
        speed = world.one((0, 1 << 30, 1, -1))
        world.send("block-job-set-speed", {"device": world.job(), "speed": speed})
    else:
        mode = world.one(("write-blocking", "background"))
        world.send("block-job-change", {"id": world.job(), "type": "mirror", "copy-mode": mode})


_ACTIONS: tuple[Callable[[World], tuple[str, Arguments]], ...] = (
    *(_bitmap_action,) * 4,
    *(_backup, _snapshot) * 2,
    images.drive_backup,
    images.snapshot_sync,
    images.snapshot_internal,
)


def transact(world: World) -> None:
    actions = []
    for _ in range(world.rng.randint(1, 4)):
        kind, data = world.one(_ACTIONS)(world)
        actions.append({"type": kind, "data": data})
    if world.chance(0.1):
        actions.append({"type": "abort", "data": {}})
    arguments: Arguments = {"actions": actions}
    if world.chance(0.2):
        arguments["properties"] = {"completion-mode": world.one(("grouped", "individual"))}
    world.send("transaction", arguments)
