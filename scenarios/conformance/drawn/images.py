"""Moves that make images: snapshots of both kinds, copies by file name, backing files, amending."""

from __future__ import annotations

from scenarios.conformance.drawn.world import DISK_BYTES, Arguments, World

_FORMATS = ("qcow2", "qcow2", "raw")
_MODES = ("existing", "absolute-paths")


def _file(world: World) -> str:
    name = world.new_name("f")
    if name not in world.files:
        world.files.append(name)
    return name


def _named(world: World) -> Arguments:
    """By the node's or the device's name."""
    if world.attach == "drive" and world.chance(0.5):
        return {"device": world.one(list(world.disks))}
    return {world.one(("node-name", "node-name", "device")): world.node()}


def snapshot_sync(world: World) -> tuple[str, Arguments]:
    options = {"format": _FORMATS, "mode": _MODES, "snapshot-node-name": (world.new_node(),)}
    arguments = {**_named(world), "snapshot-file": _file(world), **world.some(options, 0.4)}
    return "blockdev-snapshot-sync", arguments


def snapshot_internal(world: World) -> tuple[str, Arguments]:
    return "blockdev-snapshot-internal-sync", {"device": world.node(), "name": world.new_name("s")}


def drive_backup(world: World) -> tuple[str, Arguments]:
    options = {"format": _FORMATS, "mode": _MODES, "speed": (0, 1 << 30), "compress": (True,)}
    arguments = {
        "job-id": world.new_job(),
        "device": world.node(),
        "target": _file(world),
        "sync": world.one(("full", "none", "top")),
    }
    return "drive-backup", arguments | world.some(options, 0.3)


def make(world: World) -> None:
    world.send(*world.one((snapshot_sync, snapshot_internal, drive_backup))(world))


def drive_mirror(world: World) -> None:
    options = {"format": _FORMATS, "mode": _MODES, "node-name": (world.new_node(),)}
    arguments = {
        "job-id": world.new_job(),
        "device": world.node(),
        "target": _file(world),
        "sync": world.one(("full", "none", "top")),
    }
    world.send("drive-mirror", arguments | world.some(options, 0.3))


def delete_internal(world: World) -> None:
    arguments = {
        "device": world.node(),
        **world.some({"name": (world.new_name("s"),), "id": ("1", "2")}, 0.7),
    }
    world.send("blockdev-snapshot-delete-internal-sync", arguments)


def change_backing(world: World) -> None:
    world.send(
        "change-backing-file",
        {
            "device": world.node(),
            "image-node-name": world.node(),
            "backing-file": world.one([*world.files, "nope.img", ""]),
        },
    )


def amend(world: World) -> None:
    job = world.new_job()
    changes = {"size": (DISK_BYTES,), "version": ("v2", "v3"), "lazy-refcounts": (True,)}
    options = {"driver": "qcow2", **world.some(changes, 0.3)}
    world.send("x-blockdev-amend", {"job-id": job, "node-name": world.node(), "options": options})
    world.send("job-dismiss", {"id": job})
