"""Block drivers, one a file; each is imported when the first node of its format is opened."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.driver import Driver

# Format name -> (file in this folder, class in it)
_PLACES = {
    "backup-top": ("backup_top", "BackupTop"),
    "blkdebug": ("blkdebug", "Blkdebug"),
    "blklogwrites": ("blklogwrites", "Blklogwrites"),
    "blkreplay": ("blkreplay", "Blkreplay"),
    "blkverify": ("blkverify", "Blkverify"),
    **{
        name: ("other_formats", name.capitalize())
        for name in (
            "bochs",
            "cloop",
            "dmg",
            "luks",
            "parallels",
            "qcow",
            "qed",
            "vdi",
            "vhdx",
            "vmdk",
            "vpc",
        )
    },
    "compress": ("compress", "Compress"),
    "copy-before-write": ("copy_before_write", "CopyBeforeWrite"),
    "copy-on-read": ("copy_on_read", "CopyOnRead"),
    "file": ("file", "File"),
    "host_cdrom": ("host_device", "HostCdrom"),
    "host_device": ("host_device", "HostDevice"),
    "nbd": ("nbd", "Nbd"),
    "null-aio": ("null", "NullAio"),
    "null-co": ("null", "NullCo"),
    "preallocate": ("preallocate", "Preallocate"),
    "qcow2": ("qcow2", "Qcow2"),
    "quorum": ("quorum", "Quorum"),
    "raw": ("raw", "Raw"),
    "snapshot-access": ("snapshot_access", "SnapshotAccess"),
    "throttle": ("throttle", "Throttle"),
}

_classes: dict[str, type[Driver]] = {}


def is_known(format_name: str) -> bool:
    return format_name in _PLACES


def driver_class(format_name: str) -> type[Driver]:
    """The driver of a format. The schema lets more formats pass than the simulator has: those raise QmpError,
    in the words of a QEMU that was built without them (block.c:bdrv_open_inherit)."""
    found = _classes.get(format_name)
    if found is None:
        place = _PLACES.get(format_name)
        if place is None:
            from simulator.block.errors import QmpError

            raise QmpError(f"Unknown driver '{format_name}'")
        module = import_module(f"simulator.block.drivers.{place[0]}")
        found = _classes[format_name] = getattr(module, place[1])
    return found
