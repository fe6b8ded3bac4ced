"""The state of a machine in a qcow2 image: behind the end of the disk, where no guest can read it.

Source: docs/interop/qcow2.txt, "Snapshots"; qcow2_vm_state_offset and qcow2_save_vmstate, block/qcow2.c;
qcow2_snapshot_create, block/qcow2-snapshot.c, 7.2.
"""

from __future__ import annotations

from simulator.block.drivers import qcow2_zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2 import Qcow2


def place(driver: Qcow2) -> int:
    """The guest offset at which it begins."""
    header = driver.header
    return header.l1_entries_for(header.size_bytes) << header.l2_shift


async def save(driver: Qcow2, state: bytes) -> None:
    """Raises OSError."""
    start = place(driver)
    await driver.refcounts.load()
    driver.tables.grow_l1(driver.header.l1_entries_for(start + len(state)))
    await driver.write(start, state, 0)


async def load(driver: Qcow2, length: int) -> bytes:
    """Raises OSError."""
    return await driver.read(place(driver), length)


async def forget(driver: Qcow2, length: int) -> None:
    """The active disk does not need it any more: it is a snapshot's now. Raises OSError."""
    start, size = place(driver), driver.header.cluster_bytes
    await qcow2_zero.change_entries(
        driver, start, start + length + -length % size, qcow2_zero.discarded(driver), False
    )
