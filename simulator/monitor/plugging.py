"""Devices that come with -device and device_add, and go with device_del.

Source: softmmu/qdev-monitor.c (qdev_device_add_from_qdict, qdev_unplug) and hw/acpi/pcihp.c, 7.2. Of devices
that are no disks only the name, the id and the bus are kept.
"""

from __future__ import annotations

from contextlib import suppress

from simulator.block import iothreads
from simulator.block.errors import QmpError
from simulator.block.ids import well_formed_id
from simulator.monitor import bus_search
from simulator.monitor.buses import ALIASES, BUS_OF_KIND, DEFAULT_BUS, FIXED, SCSI_ADAPTERS
from simulator.monitor.device_settings import COUNTED, LAST_SLOT, asked_slot, check_names, set_on_backend
from simulator.monitor.device_values import Values, as_text
from simulator.monitor.scsi_addresses import ScsiAddresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.block.iothreads import IoThread
    from simulator.machine import Machine

# Settings of disk devices that are looked at here, or change nothing that a client of the block layer sees.
_OTHER_SETTINGS = frozenset(("driver", "id", "bus", "addr"))
# What a disk is told most often is not looked up among all that it could be told.
_USUAL_TYPES = {
    "drive": "str",
    "serial": "str",
    "share-rw": "bool",
    "bootindex": "int32",
    "write-cache": "OnOffAuto",
    "werror": "BlockdevOnError",
    "rerror": "BlockdevOnError",
    **dict.fromkeys(COUNTED, "OnOffAuto"),
}
_DISK_SETTINGS = _OTHER_SETTINGS | frozenset(("unit", *_USUAL_TYPES))
# What the board itself has in the first slots of its bus.
_FIRST_FREE_SLOT = {"pc": 2, "q35": 1}
_IN_FIRST_SLOTS = {"pc": ("i440FX", "PIIX3")}

# How long a bus's readers take at least (call_rcu_thread, util/rcu.c).
_READERS_NS = 1_000_000


class Plugged:
    """A device of a machine: `disk` is None for one that is no disk."""

    __slots__ = ("device_id", "disk", "is_hot", "is_pci", "path", "settings", "type_name")

    def __init__(
        self, type_name: str, device_id: str, path: str, is_pci: bool, disk: GuestDevice | None
    ) -> None:
        self.type_name, self.device_id, self.path = type_name, device_id, path
        self.is_pci, self.disk = is_pci, disk
        self.is_hot = False  # it came while the machine ran
        self.settings: Mapping[str, Any] = {}  # what it was told


class Slots:
    """What is plugged into a machine besides its board, by path, in the order in which it came."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.board = "pc"
        self.memory_id = ""  # the object that is the board's memory
        self._others: dict[str, Plugged] = {}  # no disks
        self._leaving: list[str] = []  # paths of devices whose guest has been asked to let them go
        self._bus: dict[str, str] = {}  # the name of each device's
        self.settings: dict[str, Mapping[str, Any]] = {}  # what each device was told, by path
        self._threads: dict[str, IoThread] = {}  # of SCSI adapters, by their buses
        self._in_slot: dict[str, int] = {}  # PCI devices on the board's own bus
        self._hot: list[str] = []  # paths of devices that came while the machine ran
        self.scsi = ScsiAddresses()

    # -- coming
    async def plug(self, given: Mapping[str, Any], is_hot: bool, is_typed: bool = False) -> None:
        """`given`: options as -device or device_add has them, numbers and booleans perhaps not as text, which
        `is_typed` takes them for. Raises QmpError."""
        machine = self._machine
        identifier = given.get("id")
        ids = machine.version.qmp.device_ids
        if not is_hot or ids in ("registered", "well-formed"):
            self.check_id_as_option(identifier)
        if "driver" not in given or (is_typed and not isinstance(given["driver"], str)):
            raise QmpError("Parameter 'driver' is missing")
        if not is_typed:
            # Option text has none of the others (qemu_opts_from_qdict_entry).
            given = {name: value for name, value in given.items() if isinstance(value, str | int | float)}
        driver = ALIASES.get(str(given["driver"]), str(given["driver"]))
        is_disk = machine.devices.is_disk(driver) and not (driver == "nvme" and "drive" not in given)
        kind = machine.devices.bus_of(driver) if is_disk else self._kind_of(driver)
        if is_hot and driver in FIXED:
            raise QmpError("Parameter 'driver' expects a pluggable device type")
        bus = bus_search.find(self.board, self.buses(), driver, kind, given.get("bus"), is_hot)
        if ids == "checked" and isinstance(identifier, str) and not well_formed_id(identifier):
            raise QmpError(f"Invalid qdev ID '{identifier}'")
        self._check_id(identifier)
        check_names(machine, driver, given, _DISK_SETTINGS if is_disk else _OTHER_SETTINGS)
        values = self._values(driver, given, is_typed)
        self._check_iothread(given)
        if driver == "nvme" and "serial" not in given:
            raise QmpError("serial property not set")
        asked = asked_slot(driver, given)
        slot = self._slot(driver, asked) if kind == "PCI" and self._is_own(given.get("bus")) else None
        place = self.scsi.find(self._adapter_of(bus), bus, values) if kind == "SCSI" else None
        device_id = identifier if isinstance(identifier, str) else ""
        if is_disk:
            drive = as_text(given["drive"]) if "drive" in given else None
            disk = await machine.devices.add(driver, device_id, drive, values)
            path = disk.path
            if kind == "SCSI" and disk.backend.node is not None:
                if is_hot and machine.graph.rules.adapter_minds_blockers:
                    machine.devices.check_blockers(disk)
                # To the adapter's (virtio_scsi_hotplug, hw/scsi/virtio-scsi.c:947, 7.2), or the main loop.
                iothreads.move(disk.backend.node, self._threads.get(bus), disk.backend)
            set_on_backend(disk, values)
        else:
            path = machine.devices.path_of(device_id)
            if device_id:
                machine.devices.named[device_id] = driver
            self._others[path] = Plugged(driver, device_id, path, kind == "PCI", None)
            if "iothread" in given and device_id and driver.startswith(SCSI_ADAPTERS):
                self._threads[f"{device_id}.0"] = self._machine.iothreads[given["iothread"]]
        self._bus[path] = bus
        self.settings[path] = {**given, **values}
        if is_hot:
            self._hot.append(path)
        if place is not None:
            self.scsi.take(bus, place, path, device_id)
        if slot is not None:
            self._in_slot[path] = slot

    @property
    def has_devices(self) -> bool:
        """Whether there are any besides those of the board."""
        return bool(self._others or self._machine.devices.by_path)

    def _is_own(self, bus: Any) -> bool:
        """Whether it is the board's own PCI bus."""
        return bus is None or bus == DEFAULT_BUS.get(self.board, {}).get("PCI")

    def _slot(self, driver: str, asked: int | None) -> int:
        """The one asked for, or the first that is free. Raises QmpError."""
        taken = {slot: path for path, slot in self._in_slot.items()}
        if asked is None:
            slots = range(_FIRST_FREE_SLOT.get(self.board, 1), LAST_SLOT + 1)
            asked = next((slot for slot in slots if slot not in taken), None)
            if asked is None:
                raise QmpError(f"PCI: no slot/function available for {driver}, all in use or reserved")
        elif asked < len(_IN_FIRST_SLOTS.get(self.board, ())):
            own = _IN_FIRST_SLOTS[self.board][asked]
            raise QmpError(
                f"PCI: slot {asked} function 0 not available for {driver}, in use by {own},id=(null)"
            )
        elif asked in taken:
            other = self._find(taken[asked])
            assert other is not None
            raise QmpError(
                f"PCI: slot {asked} function 0 not available for {driver}, "
                f"in use by {other.type_name},id={other.device_id}"
            )
        return asked

    def _check_iothread(self, given: Mapping[str, Any]) -> None:
        """A device that may have one was not refused by its name. The node goes there when the guest's driver
        starts the device, which none does here."""
        if "iothread" not in given or given["iothread"] in self._machine.iothreads:
            return
        if any(name == given["iothread"] for name, _ in self._machine.objects.in_qom_order()):
            raise QmpError("Invalid parameter type for 'iothread', expected: iothread")
        raise QmpError(f"Device '{given['iothread']}' not found", "DeviceNotFound")

    def _values(self, driver: str, given: Mapping[str, Any], is_typed: bool) -> dict[str, Any]:
        """Of its properties. Raises QmpError."""
        machine = self._machine
        known = _USUAL_TYPES.keys() | _OTHER_SETTINGS
        types = _USUAL_TYPES if known >= given.keys() else machine.device_property_types(driver)
        is_virtio = driver.startswith("virtio-")
        identifier = str(given.get("id", ""))
        owner = "" if is_virtio else identifier
        texts = machine.version.texts
        type_name = driver.removesuffix("-pci").removesuffix("-device") + "-device" if is_virtio else driver
        named = owner if texts.large_sizes_name_id else type_name
        return Values(types, is_typed, owner, named, texts.device_numbers).read(given)

    def _kind_of(self, driver: str) -> str:
        """The kind of bus that a device which is no disk needs, as far as it is looked at, or "". Raises
        QmpError if it cannot be added (qdev_get_device_class)."""
        kinds, is_abstract = self._machine.device_kinds(driver)
        if is_abstract and "device" in kinds:
            raise QmpError("Parameter 'driver' expects a non-abstract device type")
        if not self._machine.knows_device(driver) or (kinds and "device" not in kinds):
            raise QmpError(f"'{driver}' is not a valid device model name")
        return next((BUS_OF_KIND[each] for each in kinds if each in BUS_OF_KIND), "")

    def check_id_as_option(self, identifier: Any) -> None:
        """What is said of an id in option text (qemu_opts_create). Raises QmpError."""
        if isinstance(identifier, str) and not well_formed_id(identifier):
            raise QmpError("Parameter 'id' expects an identifier")
        if self._machine.version.qmp.device_ids == "registered":
            self._check_id(identifier)

    def _check_id(self, identifier: Any) -> None:
        path = f"/machine/peripheral/{identifier}"
        if path in self._others or path in self._machine.devices.by_path:
            raise QmpError(f"Duplicate device ID '{identifier}'")

    def buses(self) -> dict[str, tuple[str, bool]]:
        """Of the board and of devices: name -> (kind, whether devices can come while the machine runs)."""
        disks = self._machine.devices.by_path.values()
        return bus_search.found_buses(self.board, [*self._others.values(), *disks])

    def shown_name(self, disk: GuestDevice) -> dict[str, str]:
        """As queries have it: a part of a device on its way out has no path (blk_get_attached_dev_id)."""
        name = disk.backend.device_id
        return {} if disk.key != disk.path and name == disk.backend_path else {"qdev": name}

    def has_thread(self, thread: IoThread) -> bool:
        """Whether a SCSI adapter lets its disks work there."""
        return thread in self._threads.values()

    # -- going
    async def unplug(self, name: str) -> None:
        """device_del. A SCSI disk goes at once, right behind the reply. A PCI device goes when its guest has
        agreed, and here nobody does; a reset takes it away. Raises QmpError."""
        device = self._find(name)
        if device is None:
            if name in ("", "/machine", "/"):
                raise QmpError(f"{name} is not a hotpluggable device")
            raise QmpError(f"Device '{name}' not found", "DeviceNotFound")
        if device.path in self._leaving:
            if not self._machine.version.qmp.tells_of_second_unplug:
                return
            raise QmpError(f"Device {device.device_id} is already in the process of unplug")
        if not self._may_leave(device):
            raise QmpError(f"Bus '{self._bus.get(device.path, 'ide.0')}' does not support hotplugging")
        if device.is_pci:
            self._leaving.append(device.path)
            return
        if device.disk is not None and device.disk.backend.node is not None:
            async with self._machine.graph.drained(device.disk.backend.node):
                pass
        self._unparent(device)
        self._machine.spawn(self._remove_later(device), f"unplug of {device.path}")

    def _unparent(self, device: Plugged) -> None:
        """It has no name any more, and stands on its drive for a while yet."""
        if device.disk is not None:
            self._leave_thread(device.disk)
            self._machine.devices.unparent(device.disk)
        self._forget(device)

    def _forget(self, device: Plugged) -> None:
        """All that its name and its place led to."""
        named = self._machine.devices.named
        if device.device_id in named:
            del named[device.device_id]
        self._threads.pop(f"{device.device_id}.0", None)
        self._others.pop(device.path, None)
        self._in_slot.pop(device.path, None)
        self._bus.pop(device.path, None)
        self.settings.pop(device.path, None)
        self.scsi.leave(device.path)
        if device.path in self._hot:
            self._hot.remove(device.path)

    async def _remove_later(self, device: Plugged) -> None:
        """Its place on the bus holds it until all readers of the bus are done (bus_free_bus_child): it cannot
        be named any more, and still stands on its drive."""
        await self._machine.scheduler.sleep(self._machine.version.qmp.unplugged_after_ns)
        await self._let_go(device)

    def _may_leave(self, device: Plugged) -> bool:
        return device.disk is None or self._machine.devices.bus_of(device.type_name) != "IDE"

    def find(self, path: str) -> Plugged | None:
        """The device of a whole path, with what it was told."""
        found = self._find(path) if path.startswith("/machine/peripheral") else None
        if found is not None:
            found.is_hot, found.settings = path in self._hot, self.settings.get(path, {})
        return found

    def slot_of(self, path: str) -> int | None:
        """Of a device on the board's own PCI bus."""
        return self._in_slot.get(path)

    def pci_devices(self) -> list[Plugged]:
        """That are plugged in, wherever on such buses."""
        paths = [*self._others, *self._machine.devices.by_path]
        return [each for each in map(self._find, paths) if each is not None and each.is_pci]

    def bus_of(self, path: str) -> str:
        return self._bus.get(path, "")

    def _adapter_of(self, bus: str) -> str:
        """The type of a SCSI adapter, "" where it has no id."""
        path = f"/machine/peripheral/{bus.removesuffix('.0')}"
        return self._others[path].type_name if path in self._others else ""

    def _find(self, name: str) -> Plugged | None:
        path = name if name.startswith("/") else f"/machine/peripheral/{name}"
        if path in self._others:
            return self._others[path]
        disk = self._machine.devices.by_path.get(path)
        if disk is None:
            return None
        is_pci = self._machine.devices.bus_of(disk.type_name) == "PCI"
        return Plugged(disk.type_name, disk.device_id, path, is_pci, disk)

    def disk_of(self, name: str) -> GuestDevice:
        """The disk that a command means by the id or path of a device. Raises QmpError."""
        disk = self._machine.devices.holder(name)
        if disk is not None:
            return disk
        if self._find(name) is not None:
            raise QmpError("Device does not have a block device backend")
        raise QmpError(f"Device '{name}' not found", "DeviceNotFound")

    def after_reset(self) -> None:
        """What waits for the guest goes, right behind the reply."""
        leaving = sorted(self._leaving, key=lambda path: self._in_slot.get(path, 0))
        self._leaving.clear()
        if leaving:
            self._machine.spawn(self._remove_all(leaving), "unplug at reset")

    async def _remove_all(self, paths: list[str]) -> None:
        """Each with those on the bus that it has."""
        leaving: list[Plugged] = []
        for device in filter(None, map(self._find, paths)):
            leaving += [*self._on_bus_of(device), device]
        for device in leaving:
            self._unparent(device)
        # In any version behind the reply: nobody waits for the bus's readers, as device_del may.
        waited_ns = max(_READERS_NS, self._machine.version.qmp.unplugged_after_ns)
        await self._machine.scheduler.sleep(waited_ns)
        for device in leaving:
            await self._let_go(device)

    def _on_bus_of(self, device: Plugged) -> list[Plugged]:
        paths = [*self._others, *self._machine.devices.by_path] if device.device_id else []
        own = [path for path in paths if self._bus.get(path, "").partition(".")[0] == device.device_id]
        return [each for each in map(self._find, own) if each is not None]

    def _leave_thread(self, disk: GuestDevice) -> None:
        """The node of a disk in its adapter's thread goes back to the main loop, unless others keep it there
        (virtio_scsi_hotunplug, hw/scsi/virtio-scsi.c:985, 7.2)."""
        node = disk.backend.node
        if self._bus.get(disk.path) in self._threads and node is not None:
            with suppress(QmpError):
                iothreads.move(node, None, disk.backend)

    async def _let_go(self, device: Plugged) -> None:
        """Its drive; and all is told of its end."""
        machine = self._machine
        if machine.gone:
            return
        if device.disk is not None:
            await machine.devices.unplug(device.disk)
        if device.disk is not None and device.disk.backend_path != device.path:
            machine.outbox.emit("DEVICE_DELETED", {"path": device.disk.backend_path})
        elif device.is_pci and device.type_name.startswith("virtio-"):
            machine.outbox.emit("DEVICE_DELETED", {"path": f"{device.path}/virtio-backend"})
        told = {"path": device.path}
        machine.outbox.emit(
            "DEVICE_DELETED", {"device": device.device_id, **told} if device.device_id else told
        )
