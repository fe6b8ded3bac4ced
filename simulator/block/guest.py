"""The guest's side of a disk: a device that stands on a node or a drive (hw/block,
hw/core/qdev-properties-system.c)."""

from __future__ import annotations

from simulator.block import backend_limits, device_limits, granting, permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.qapi.glib_table import ChildTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from simulator.block.graph import Graph

_VIRTIO_BLK = ("virtio-backend", "virtio-blk-device", "PCI")
# Device type -> (part below the device that the backend hangs on, the type that owns the property `drive`,
# the bus it needs); {} is the name of the bus that the device itself has.
DEVICE_TYPES = {
    "virtio-blk-pci": _VIRTIO_BLK,
    "virtio-blk": _VIRTIO_BLK,
    "virtio-blk-pci-transitional": _VIRTIO_BLK,
    "virtio-blk-pci-non-transitional": _VIRTIO_BLK,
    "nvme": ("", "nvme", "PCI"),
    "usb-storage": ("{}.0/legacy[0]", "usb-storage", "usb-bus"),
    "scsi-hd": ("", "scsi-hd", "SCSI"),
    "ide-hd": ("", "ide-hd", "IDE"),
    "scsi-cd": ("", "scsi-cd", "SCSI"),
    "ide-cd": ("", "ide-cd", "IDE"),
}
_WITH_TRAY = ("scsi-cd", "ide-cd")
# Hard disks, by how their types begin; virtio-blk is one, too.
_WITH_GEOMETRY = ("scsi-hd", "ide-hd", "usb-storage")
# Types that have one, too, if they are told that they are removable.
_PERHAPS_REMOVABLE = ("scsi-hd", "usb-storage")
_ALIASES = {"virtio-blk": "virtio-blk-pci"}


class GuestDevice:
    """A disk device. `path` is its place in the QOM tree; `backend_path` that of the part which holds the
    backend."""

    def __init__(
        self, type_name: str, device_id: str, path: str, backend: BlockBackend, is_removable: bool = False
    ) -> None:
        self.type_name = type_name
        self.device_id = device_id
        self.path = self.key = path
        below = DEVICE_TYPES[type_name][0].format(device_id or "scsi")
        self.backend_path = f"{path}/{below}" if below else path
        self.backend = backend
        has_tray = type_name in _WITH_TRAY or is_removable
        self.tray_open: bool | None = False if has_tray else None  # None: it has no tray
        self.leaves_backend = False  # it has made one for itself alone, which stays behind
        self.drive_id = backend.name  # of the drive that goes with it, "" for none

    def is_backend_path(self, path: str) -> bool:
        """Whether a path, perhaps without its beginning, leads to the part that holds the backend."""
        return path == self.backend_path or (path[:1] != "/" and self.backend_path.endswith(f"/{path}"))

    @property
    def drive_name(self) -> str:
        """What qom-get shows as `drive`: the drive's id, or the node's name."""
        if self.backend.name:
            return self.backend.name
        node = self.backend.node
        return node.node_name if node is not None else ""


class GuestDevices:
    """All guest disk devices of a machine, by QOM path, in the order they were made."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._anonymous = 0
        self.backends_inserted = 0  # unnamed ones of devices, on nodes, so far
        self.made = 0  # disks, so far
        self.on_drive_gone: Callable[[str], None] = lambda name: None  # a drive that went with its device
        self.by_path: dict[str, GuestDevice] = {}  # one that has left the tree: by what is no path
        self._unparented = 0
        self.named = ChildTable()  # types of the machine's devices that have an id, by it

    def find(self, id_or_path: str) -> GuestDevice | None:
        """By qdev id, by path, or by the path of the part below that holds the backend; the end of a path
        will do."""
        for device in self.by_path.values():
            if device.key != device.path:
                continue
            if id_or_path in (device.device_id or None, device.path) or device.is_backend_path(id_or_path):
                return device
        return None

    def holder(self, id_or_path: str) -> GuestDevice | None:
        """The disk whose backend hangs on the very device that is named (blk_by_qdev_id,
        block/qapi-sysemu.c:52, 7.2); None where there is no such device. A device that is put around it has
        none itself. Raises QmpError."""
        found = self.find(id_or_path)
        is_around = found is not None and found.backend_path != found.path
        if found is not None and is_around and id_or_path in (found.device_id, found.path):
            raise QmpError("Device does not have a block device backend")
        return found

    @staticmethod
    def is_disk(type_name: str) -> bool:
        """Whether it is a device that stands on a drive."""
        return type_name in DEVICE_TYPES

    @staticmethod
    def bus_of(type_name: str) -> str:
        """The kind of bus that a disk device needs: PCI, SCSI or IDE."""
        return DEVICE_TYPES[type_name][2]

    async def add(
        self, type_name: str, device_id: str, drive: str | None, values: Mapping[str, Any] | None = None
    ) -> GuestDevice:
        """-device TYPE,drive=...,id=... `values` of its other properties. Raises QmpError."""
        values = values or {}
        if type_name not in DEVICE_TYPES:
            raise QmpError(f"'{type_name}' is not a valid device model name")
        type_name = _ALIASES.get(type_name, type_name)
        drive = drive or None
        if drive is None and type_name not in _WITH_TRAY:
            raise QmpError("No drive specified" if type_name == "ide-hd" else "drive property not set")
        backend = self._backend_for(type_name, drive)
        is_removable = type_name in _PERHAPS_REMOVABLE and bool(values.get("removable"))
        if backend.node is None and type_name not in _WITH_TRAY and not is_removable:
            raise QmpError("Device needs media, but drive is empty")
        is_virtio = type_name.startswith("virtio-")
        if is_virtio:
            device_limits.check_queues(values)
        else:
            device_limits.check_block_sizes(values)
            if type_name.startswith(_WITH_GEOMETRY):
                await device_limits.guess_geometry(backend, values)
        path = self.path_of(device_id)
        device = GuestDevice(type_name, device_id, path, backend, is_removable)
        device.leaves_backend = drive is None
        backend.device_id = device_id if device_id and device.backend_path == path else device.backend_path
        # Nobody looks after its errors (blk_iostatus_enable).
        backend.keeps_io_status &= type_name != "nvme"
        try:
            self._take_permissions(device, bool(values.get("share-rw")))
            if is_virtio:
                await device_limits.guess_geometry(backend, values)
                device_limits.check_block_sizes(values)
        except QmpError:
            self._leave(backend)
            raise
        self.made += 1
        self.by_path[path] = device
        if device_id:
            self.named[device_id] = type_name
        return device

    def check_blockers(self, device: GuestDevice) -> None:
        """Raises QmpError, and the device is gone, which was made already (virtio_scsi_hotplug,
        hw/scsi/virtio-scsi.c:948, 7.2)."""
        assert device.backend.node is not None
        try:
            self._graph.check_operation(device.backend.node, "dataplane")
        except QmpError:
            del self.by_path[device.key]
            self.named.pop(device.device_id, None)
            self._leave(device.backend)
            raise

    def _leave(self, backend: BlockBackend) -> None:
        """A backend of ours alone goes with the device that could not be made; a drive stays."""
        backend.device_id = ""
        if not backend.name and backend.root is not None:
            edge, backend.root = backend.root, None
            self._graph.unlink(edge)
            granting.refresh([edge.node])

    def path_of(self, device_id: str) -> str:
        """Where a new device stands in the QOM tree. Raises QmpError if its id is taken."""
        if device_id:
            path = f"/machine/peripheral/{device_id}"
            if path in self.by_path:
                raise QmpError(f"Duplicate device ID '{device_id}'")
            return path
        self._anonymous += 1
        return f"/machine/peripheral-anon/device[{self._anonymous - 1}]"

    def _backend_for(self, type_name: str, drive: str | None) -> BlockBackend:
        if drive is None:
            return BlockBackend(self._graph, "", 0, permissions.ALL)
        backend = self._graph.backends.get(drive)
        if backend is None:
            node = self._graph.nodes.get(drive)
            if node is None:
                raise QmpError(f"Property '{DEVICE_TYPES[type_name][1]}.drive' can't find value '{drive}'")
            backend = BlockBackend(self._graph, "", 0, permissions.ALL)
            if DEVICE_TYPES[type_name][2] != "IDE":
                backend.iothread = node.iothread
            backend.insert(node)
            self.backends_inserted += 1
        elif backend.device_id:
            raise QmpError(f"Drive '{drive}' is already in use by another device")
        return backend

    def _take_permissions(self, device: GuestDevice, share_rw: bool) -> None:
        """blkconf_apply_backend_options, hw/block/block.c:225, 7.2."""
        perm = permissions.CONSISTENT_READ
        shared = permissions.ALL & ~permissions.WRITE
        node = device.backend.node
        if device.type_name in _WITH_TRAY:
            # All others can tell their guest of a new size.
            shared &= ~permissions.RESIZE
        elif node is not None and not node.read_only:
            perm |= permissions.WRITE
        elif device.type_name == "ide-hd":
            raise QmpError("Block node is read-only")
        if share_rw:
            shared |= permissions.WRITE
        device.backend.set_permissions(perm, shared)

    async def set_drive(self, device: GuestDevice, value: str) -> None:
        """qom-set of `drive` on a device that has one: stand on another node. Raises QmpError."""
        node = self._graph.lookup("", value)
        root = device.backend.root
        if root is None:
            device.backend.insert(node)
        else:
            await self._graph.replace_child(root, node)

    def unparent(self, device: GuestDevice) -> None:
        """It can be named no more, and another may have its name. It still stands on its drive."""
        self._unparented += 1
        device.key = f"({self._unparented}) {device.path}"
        self.by_path = {each.key: each for each in self.by_path.values()}

    async def unplug(self, device: GuestDevice) -> None:
        """The device goes; a drive goes with it (blockdev_auto_del, blockdev.c, 7.2)."""
        await self.remove(device)
        if device.drive_id:
            await device.backend.remove()
            backend_limits.leave(device.backend)
            if device.backend.name:
                del self._graph.backends[device.backend.name]
            self.on_drive_gone(device.drive_id)

    async def remove(self, device: GuestDevice) -> None:
        """The device lets go of its backend; an unnamed one goes with it, but for one that was made for an
        empty drive: that has a reference more than anybody gives back (scsi_cd_realize,
        hw/scsi/scsi-disk.c:2622, 7.2)."""
        del self.by_path[device.key]
        device.backend.device_id = ""
        if device.leaves_backend:
            self._graph.orphans.append(device.backend)
        if device.backend.name or device.leaves_backend:
            device.backend.set_permissions(0, permissions.ALL)
        else:
            await device.backend.remove()
            backend_limits.leave(device.backend)
