"""A file of its own for what a qcow2 disk holds: each cluster lies there where the guest has it.

Source: docs/interop/qcow2.txt, "External data file"; qcow2_do_open, block/qcow2.c:1623-1680, 7.2.
"""

from __future__ import annotations

from simulator.block import granting, permissions
from simulator.block.errors import QmpError
from simulator.block.opening import open_child, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2 import Qcow2

OPTION = "data-file"


async def open_it(driver: Qcow2, options: dict[str, Any]) -> None:
    """The child that the options name, or else the image's header. Raises QmpError."""
    header, node = driver.header, driver.node
    if OPTION in node.children:
        return
    given = options.get(OPTION)
    if given is not None:
        await open_child(node, OPTION, permissions.DATA, given)
    if not header.has_data_file:
        if given is not None:
            raise QmpError("'data-file' can only be set for images with an external data file")
        if header.is_raw_outside:
            raise QmpError("data-file-raw requires a data file")
        return
    if given is None:
        if not header.data_file:
            raise QmpError("'data-file' is required for this image")
        named = {"driver": "file", "filename": path_of(header.data_file)}
        await open_child(node, OPTION, permissions.DATA, named)
    driver.file.role &= ~permissions.DATA
    granting.refresh([node])


def give_back(driver: Qcow2, offset: int) -> None:
    """A cluster is in use no more: the data file may discard it, once its entry says so."""
    driver.unused_data.append(offset)


async def discard_unused(driver: Qcow2) -> None:
    """Raises OSError."""
    unused, driver.unused_data = driver.unused_data, []
    if driver.node.discard_unmap:
        for offset in unused:
            await driver.data.discard(offset, driver.header.cluster_bytes)
