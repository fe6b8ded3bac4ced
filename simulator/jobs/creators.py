"""Which drivers can make an image, and how they are told to (BlockDriver.bdrv_co_create, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

CREATABLE = ("file", "qcow2")


async def create(graph: Graph, driver: str, options: dict[str, Any]) -> None:
    """Do what a blockdev-create job of one of CREATABLE does with its options. Raises QmpError."""
    try:
        if driver == "file":
            from simulator.block.drivers import file

            await file.create(graph, options)
        else:
            await _create_qcow2(graph, options)
    except OSError as error:
        raise QmpError(error.strerror or "Input/output error") from None


async def _create_qcow2(graph: Graph, options: dict[str, Any]) -> None:
    """qcow2_co_create, block/qcow2.c: the image goes into a node that exists, or is opened for it."""
    from simulator.block.drivers import qcow2_create

    if graph.rules.creating_yields:
        await graph.scheduler.host_turn
    file = await _open_reference(graph, options["file"])
    file.references += 1
    try:
        own = {key: value for key, value in options.items() if key not in ("driver", "file")}
        await qcow2_create.create(graph, file, own)
    finally:
        file.references -= 1
        await graph.release(file)


async def _open_reference(graph: Graph, given: str | dict[str, Any]) -> Node:
    """BlockdevRef: a node's name, or options to open one by."""
    if isinstance(given, str):
        return graph.lookup(given, given)
    return await graph.open(given)
