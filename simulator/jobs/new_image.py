"""Images that drive-backup and blockdev-snapshot-sync make and open by file name (bdrv_img_create,
block.c:6919, 7.2)."""

from __future__ import annotations

from simulator.block.chain import skip_implicit_filters
from simulator.block.created import formatting
from simulator.block.drivers import is_known
from simulator.block.errors import QmpError
from simulator.block.opening import path_of, probe
from simulator.jobs.creators import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

# Formats that an image can be made in by name, and whether its header can name a backing file.
_FORMATS = {"raw": False, "file": False, "qcow2": True}


async def create_image(
    graph: Graph, filename: str, image_format: str, size_bytes: int, backing: Node | None
) -> None:
    """Write an empty image of that size over whatever `filename` was. Raises QmpError."""
    if image_format not in _FORMATS and is_known(image_format):
        raise QmpError(f"Format driver '{image_format}' does not support image creation")
    if image_format not in _FORMATS:
        # As a QEMU says that was built without the format.
        raise QmpError(f"Unknown file format '{image_format}'")
    described: dict[str, Any] = {}
    if backing is not None:
        backing = skip_implicit_filters(backing)
        if not _FORMATS[image_format]:
            raise QmpError(f"Backing file not supported for file format '{image_format}'")
        if backing.filename == filename:
            raise QmpError("Error: Trying to create an image with the same filename as the backing file")
        described = {"backing-file": backing.filename, "backing-fmt": backing.driver.format_name}
    options = {"size": str(size_bytes)}
    if backing is not None:
        options |= {"backing_file": backing.filename, "backing_fmt": backing.driver.format_name}
    graph.printed.append(formatting(filename, image_format, options) + "\n")
    filename = path_of(filename)
    whole_size = 0 if image_format == "qcow2" else size_bytes
    await create(graph, "file", {"filename": filename, "size": whole_size})
    if image_format != "qcow2":
        return
    file_options = {"driver": "file", "filename": filename}
    await create(graph, image_format, {"file": file_options, "size": size_bytes, **described})


def describe_image(graph: Graph, filename: str, image_format: str | None, like: Node) -> dict[str, Any]:
    """Options that open an image by file name, cached as the node it stands in for. Raises QmpError if
    there is none."""
    filename = path_of(filename)
    cache = {key: like.cache[key] for key in ("direct", "no-flush")}
    file = {"driver": "file", "filename": filename}
    if image_format is None and like.driver.names_files:
        # It is opened with the flags of that node, of which one says so (BDRV_O_PROTOCOL).
        image_format = "file"
    if image_format == "file":
        return {**file, "cache": cache}
    driver = image_format if image_format is not None else probe(graph, filename)
    return {"driver": driver, "file": file, "cache": cache}
