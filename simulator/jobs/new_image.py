"""Images that drive-backup and blockdev-snapshot-sync make and open by file name (bdrv_img_create,
block.c:6919, 7.2)."""

from __future__ import annotations

from simulator.block.chain import skip_implicit_filters
from simulator.block.created import formatting
from simulator.block.drivers import is_known
from simulator.block.errors import QmpError
from simulator.block.opening import probe
from simulator.block.protocol_names import protocol_driver, protocol_options
from simulator.jobs.creators import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

_SECTOR_BYTES = 512
# Formats that an image can be made in by name, and whether its header can name a backing file.
_FORMATS = {"raw": False, "file": False, "qcow2": True}

# Protocols that can make images, though only the first makes any that are not there.
_MAKING = ("file", "host_device", "nbd")


async def create_image(
    graph: Graph, filename: str, image_format: str, size_bytes: int, backing: Node | None
) -> None:
    """Write an empty image of that size over whatever `filename` was. Raises QmpError."""
    if image_format not in _FORMATS and is_known(image_format):
        raise QmpError(f"Format driver '{image_format}' does not support image creation")
    if image_format not in _FORMATS:
        # As a QEMU says that was built without the format.
        raise QmpError(f"Unknown file format '{image_format}'")
    protocol = protocol_driver(filename)
    if protocol not in _MAKING:
        raise QmpError(f"Protocol driver '{protocol}' does not support image creation")
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
    if protocol == "file":
        whole_size = 0 if image_format == "qcow2" else size_bytes
        path = protocol_options(filename)["filename"]
        await create(graph, "file", {"filename": path, "size": whole_size})
    else:
        await _begin_anew(graph, filename)
    if image_format == "qcow2":
        file = protocol_options(filename)
        await create(graph, image_format, {"file": file, "size": size_bytes, **described})


async def _begin_anew(graph: Graph, filename: str) -> None:
    """What a protocol can do that makes no images: there must be one already, whose first sector is cleared
    (bdrv_co_create_opts_simple, block.c:623, 7.2). Raises QmpError."""
    try:
        node = await graph.open(protocol_options(filename))
    except QmpError as error:
        name = protocol_driver(filename)
        words = f"Protocol driver '{name}' does not support image creation, and opening the image failed: "
        raise error.prefixed(words) from None
    node.references += 1
    try:
        await node.write_zeroes(0, min(_SECTOR_BYTES, node.size_bytes), 0)
    except OSError as error:
        raise QmpError(f"Failed to clear the new image's first sector: {error.strerror}") from None
    finally:
        node.references -= 1
        await graph.release(node)


def describe_image(graph: Graph, filename: str, image_format: str | None, like: Node) -> dict[str, Any]:
    """Options that open an image by file name, cached as the node it stands in for. Raises QmpError if
    there is none."""
    file = protocol_options(filename)
    cache = {key: like.cache[key] for key in ("direct", "no-flush")}
    if image_format is None and like.driver.names_files:
        # It is opened with the flags of that node, of which one says so (BDRV_O_PROTOCOL).
        image_format = "file"
    if image_format == "file":
        return {**file, "cache": cache}
    if image_format is not None:
        driver = image_format
    else:
        driver = probe(graph, file["filename"]) if file["driver"] == "file" else "raw"
    return {"driver": driver, "file": file, "cache": cache}
