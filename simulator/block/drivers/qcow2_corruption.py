"""What QEMU does when it finds a qcow2 image corrupt: it says so once, marks the image, and lets go of it.

Source: qcow2_signal_corruption, block/qcow2.c:5899; qcow2_check_metadata_overlap, block/qcow2-refcount.c,
7.2.
"""

from __future__ import annotations

from errno import EIO
from os import strerror

from simulator.block.drivers.qcow2_header import CORRUPT
from simulator.block.ejected import Ejected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2 import Qcow2

# The option's names of what it protects, and how a refusal calls that, in the order in which it is looked at.
_WORDS = {
    "main-header": "qcow2_header",
    "active-l1": "active L1 table",
    "refcount-table": "refcount table",
    "snapshot-table": "snapshot table",
    "inactive-l1": "inactive L1 table",
    "active-l2": "active L2 table",
    "refcount-block": "refcount block",
    "bitmap-directory": "bitmap directory",
}
_CONSTANT = ("main-header", "refcount-table", "snapshot-table", "bitmap-directory")
_CACHED = (*_CONSTANT, "active-l1", "inactive-l1", "active-l2", "refcount-block")
_TEMPLATES = {"none": (), "constant": _CONSTANT, "cached": _CACHED, "all": _CACHED}


def c_hex(number: int) -> str:
    """As C's "%#x" has it: zero goes without a prefix."""
    return f"{number:#x}" if number else "0"


class CorruptImage(OSError):
    """EIO to whoever made the request. `place`: (offset in the file, length) of a write that is held back."""

    def __init__(self, message: str, place: tuple[int, int] | None = None) -> None:
        super().__init__(EIO, strerror(EIO))
        self.message, self.place = message, place


async def signal(driver: Qcow2, fault: CorruptImage) -> None:
    """Tell of it, unless that was done before."""
    node, header = driver.node, driver.header
    fatal = node.is_writable()
    if driver.told_of_corruption and (not fatal or header.incompatible & CORRUPT):
        return
    driver.told_of_corruption = True
    kind = "Marking image as corrupt" if fatal else "Image is corrupt"
    further = "corruption events" if fatal else "non-fatal corruption events"
    node.graph.report(f"qcow2: {kind}: {fault.message}; further {further} will be suppressed")
    place = {} if fault.place is None else {"offset": fault.place[0], "size": fault.place[1]}
    told = {"device": node.drive_name(), "node-name": node.node_name, "msg": fault.message, **place}
    node.graph.emit("BLOCK_IMAGE_CORRUPTED", {**told, "fatal": fatal})
    if fatal:
        header.incompatible |= CORRUPT
        await driver.file.write(0, header.encode())
        node.driver = Ejected(driver)


class Overlaps:
    """Whether a write of the disk's own bytes would hit what describes them. `protected`: the value of option
    overlap-check."""

    def __init__(self, protected: str | dict[str, Any] | None) -> None:
        given: dict[str, Any] = (
            protected if isinstance(protected, dict) else {"template": protected or "cached"}
        )
        template = _TEMPLATES[given.get("template", "cached")]
        self._names = [name for name in _WORDS if given.get(name, name in template)]

    def check(self, driver: Qcow2, host: int, length: int) -> None:
        """Raises CorruptImage."""
        if not self._names:
            return
        bits = driver.header.cluster_bits
        clusters = range(host >> bits, (host + length - 1 >> bits) + 1)
        for name in self._names:
            if _holds(driver, name, clusters):
                raise CorruptImage(
                    f"Preventing invalid write on metadata (overlaps with {_WORDS[name]})", (host, length)
                )


def _holds(driver: Qcow2, name: str, clusters: range) -> bool:
    header = driver.header
    if name == "active-l2":
        return any(cluster in driver.tables.places for cluster in clusters)
    if name == "refcount-block":
        return any(cluster in driver.refcounts.block_places for cluster in clusters)
    if name == "inactive-l1":
        return any(_meets(driver, clusters, s.l1_offset, s.l1_entries * 8) for s in driver.snapshots)
    if name == "snapshot-table":
        return bool(driver.snapshots) and _meets(driver, clusters, header.snapshots_offset, 1)
    offset, length = {
        "main-header": (0, header.cluster_bytes),
        "active-l1": (header.l1_offset, header.l1_entries * 8),
        "refcount-table": (header.reftable_offset, header.reftable_clusters * header.cluster_bytes),
        "bitmap-directory": (header.bitmap_directory_offset, header.bitmap_directory_bytes),
    }[name]
    return _meets(driver, clusters, offset, length)


def _meets(driver: Qcow2, clusters: range, offset: int, length: int) -> bool:
    bits = driver.header.cluster_bits
    return bool(length) and clusters.start <= offset + length - 1 >> bits and (clusters.stop > offset >> bits)
