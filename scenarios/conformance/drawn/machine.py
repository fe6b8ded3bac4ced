"""Moves of what is around the nodes: objects, devices and their media, limits, threads."""

from __future__ import annotations

from scenarios.conformance.drawn.nodes import add_null
from scenarios.conformance.drawn.world import Arguments, World

_CONTROLLER = "s0"
_BOUNDARIES = ([10, 50], [0], [5, 3], [1000000])


def add_object(world: World) -> None:
    name = world.new_object()
    if world.chance(0.3):
        world.send("object-del", {"id": name})
    elif name.startswith("io"):
        world.send("object-add", {"qom-type": "iothread", "id": name})
    else:
        limits = world.some({"iops-total": (10000, -1), "bps-write": (1 << 30,), "iops-size": (4096,)}, 0.3)
        world.send("object-add", {"qom-type": "throttle-group", "id": name, "limits": limits})


def add_device(world: World) -> None:
    if not world.devices:
        world.devices.append(_CONTROLLER)
        world.send("device_add", {"driver": "virtio-scsi-pci", "id": _CONTROLLER})
    driver = world.one(("virtio-blk-pci", "scsi-hd", "scsi-cd"))
    name = world.new_name("d")
    if name not in world.devices:
        world.devices.append(name)
    options = {"share-rw": (True,), "write-cache": ("on", "off", "auto"), "drive": (world.node(),)}
    made: Arguments = {"driver": driver, "id": name, **world.some(options, 0.1)}
    if driver != "scsi-cd" or world.chance(0.5):
        made["drive"] = world.node()
    if driver == "virtio-blk-pci":
        made |= world.some({"iothread": (world.new_object(),)}, 0.1)
    else:
        made["bus"] = f"{_CONTROLLER}.0"
    world.send("device_add", made)


def remove_device(world: World) -> None:
    world.send("device_del", {"id": world.one(world.devices)})


def _device(world: World) -> Arguments:
    """As commands of media and limits name one."""
    name = world.one([*world.devices, *world.disks])
    if world.attach == "device" and name in world.disks:
        return {"id": f"{name}-device"}
    return {"device": name} if name in world.disks else {"id": name}


def change_medium(world: World) -> None:
    verb = world.one(("open-tray", "close-tray", "remove-medium", "insert-medium", "change-medium"))
    arguments = _device(world)
    if verb == "open-tray":
        arguments |= world.some({"force": (True, False)}, 0.4)
    elif verb in ("remove-medium", "insert-medium"):
        arguments = {"id": world.one(world.devices)}
        if verb == "insert-medium":
            arguments["node-name"] = world.node()
    elif verb == "change-medium":
        modes = ("retain", "read-only", "read-write")
        arguments |= {
            "filename": world.one([*world.files, "nope.img"]),
            **world.some({"format": ("raw", "qcow2"), "read-only-mode": modes, "force": (True,)}, 0.4),
        }
    world.send(f"blockdev-{verb}", arguments)


def limit(world: World) -> None:
    device = _device(world)
    world.one((_throttle, _throttle, _threshold, _histogram))(world, device)


def _throttle(world: World, device: Arguments) -> None:
    limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    more = {"bps": (1 << 30,), "iops": (10000, -1), "iops_max": (20000, 5), "iops_size": (4096,)}
    group = world.some({"group": ("g0", "g1", "")})
    world.send("block_set_io_throttle", {**device, **limits, **world.some(more), **group})


def _threshold(world: World, _device: Arguments) -> None:
    values = (0, 65536, 1 << 19, 1 << 40)
    world.send("block-set-write-threshold", {"node-name": world.node(), "write-threshold": world.one(values)})


def _histogram(world: World, device: Arguments) -> None:
    name = device.get("id", device.get("device"))
    lists = {"boundaries": _BOUNDARIES, "boundaries-read": _BOUNDARIES}
    world.send("block-latency-histogram-set", {"id": name, **world.some(lists, 0.5)})


def move(world: World) -> None:
    """A node goes to another thread, or is made inactive or active."""
    if not world.nodes:
        add_null(world)
    elif world.chance(0.7):
        thread = None if world.chance(0.3) else world.new_object()
        force = world.some({"force": (True,)}, 0.3)
        world.send("x-blockdev-set-iothread", {"node-name": world.node(), "iothread": thread, **force})
    else:
        node = world.some({"node-name": (world.node(),)}, 0.8)
        world.send("blockdev-set-active", {**node, "active": world.chance(0.5)})
