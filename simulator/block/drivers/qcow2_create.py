"""blockdev-create of driver `qcow2` (qcow2_co_create, block/qcow2.c, 7.2)."""

from __future__ import annotations

from errno import EIO
from os import strerror

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.drivers import qcow2_resize
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.drivers.qcow2_header import (
    COMPRESSION,
    DATA_FILE,
    EXTENDED_L2,
    LAZY_REFCOUNTS,
    MAX_CLUSTER_BITS,
    MIN_CLUSTER_BITS,
    RAW_OUTSIDE,
    Header,
    read_header,
)
from simulator.block.drivers.qcow2_refcounts import packed
from simulator.block.errors import QmpError
from simulator.block.node import Edge, Node
from simulator.qapi.integers import signed64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph

_LEAST_BYTES = 512  # of a cluster, and more than a header has without a name
_LEAST_EXTENDED_BYTES = 32 * 512  # of a cluster of 32 subclusters


async def create(graph: Graph, file: Node, options: dict[str, Any]) -> None:
    """Make an image in `file`, an open node that the caller holds. `options` are BlockdevCreateOptionsQcow2
    without `file`. Raises QmpError."""
    header = _checked_header(graph, options)
    data = await _open_data_file(graph, options)
    try:
        await _create(graph, file, data, header, options)
    finally:
        if data is not None:
            data.references -= 1
            await graph.release(data)


async def _open_data_file(graph: Graph, options: dict[str, Any]) -> Node | None:
    """A node that is held until `references` is lowered. Raises QmpError."""
    given = options.get("data-file")
    if given is None:
        return None
    node = graph.lookup(given, given) if isinstance(given, str) else await graph.open(given)
    node.references += 1
    return node


async def _create(
    graph: Graph, file: Node, data: Node | None, header: Header, options: dict[str, Any]
) -> None:
    writer = BlockBackend(graph, "", permissions.WRITE | permissions.RESIZE, permissions.ALL)
    await graph.changing()
    writer.insert(file)
    await writer.while_drained()
    # The driver works on a node of its own that no graph knows and nobody else can reach.
    node = Node(graph, "", Qcow2)
    edge = Edge(node, "file", permissions.IMAGE, file, 0, permissions.ALL)
    node.children["file"] = edge
    driver = node.driver
    assert isinstance(driver, Qcow2)
    size = header.cluster_bytes
    uses: list[Edge] = []
    try:
        await _write(edge, 0, header.encode(), "Could not write qcow2 header")
        await _write(edge, size, _empty_refcounts(size), "Could not write refcount table")
        await writer.remove()
        await _open(graph)
        # The format writes too, or an auto-read-only file would not be writable any more.
        perm, shared = writer.perm, writer.shared
        uses.append(graph.attach(writer, "root", permissions.IMAGE, file, perm, shared))
        await _open_again(graph, edge, header)
        if data is not None:
            shared &= ~permissions.RESIZE
            uses.append(graph.attach(writer, "root", permissions.DATA, data, perm, shared))
            node.children["data-file"] = Edge(node, "data-file", permissions.DATA, data, 0, permissions.ALL)
            header.data_file = data.filename
        driver.begin(header)
        driver.refcounts.begin_empty()
        driver.refcounts.allocate(3)
        try:
            new_size = signed64(int(options["size"]))
            if new_size < 0:
                raise QmpError("Image size cannot be negative")
            graph.rules.check_length(new_size)
            if header.data_file:
                await driver.write_header()
            await qcow2_resize.resize(driver, new_size, False, _preallocation(graph, options))
        except QmpError as error:
            raise error.prefixed("Could not resize image: ") from None
        if options.get("backing-file") is not None:
            await _name_backing(driver, str(options["backing-file"]), str(options.get("backing-fmt") or ""))
        if options.get("encrypt") is not None:
            _check_key(options["encrypt"])
        # All of the header that the size has changed was written with the tables.
        await edge.flush()
        await _close(graph)
        await _open(graph)
        await _close(graph)
    except OSError as error:
        raise QmpError(f"Could not update qcow2 header: {strerror(error.errno or EIO)}") from None
    finally:
        node.was_closed()
        for use in uses:
            await graph.detach(use)
        await writer.remove()
        # The file is drained before it is let go, which a coroutine leaves to the main loop.
        await graph.scheduler.loop_turn


def _preallocation(graph: Graph, options: dict[str, Any]) -> str:
    """A raw data file is read without the image too, so that every cluster has to have its place."""
    given = str(options.get("preallocation", "off"))
    placed = given == "off" and options.get("data-file-raw") and graph.rules.raw_outside_is_placed
    return "metadata" if placed else given


async def _open(graph: Graph) -> None:
    """QEMU opens the image that it makes, twice, as jobs see where that drains all nodes: somebody who looks
    at the file comes and goes, and then the format takes it, and a user the format."""
    for _ in range(4):
        await graph.changing()


async def _close(graph: Graph) -> None:
    """The user lets the format go, and that the file."""
    async with await graph.while_changing(), await graph.while_changing():
        pass


def _empty_refcounts(cluster_bytes: int) -> bytes:
    """The refcount table and its one block, of clusters 1 and 2. Every image of one cluster size begins with
    the same bytes, and to make them anew takes longer than to write them."""
    made = _made.get(cluster_bytes)
    if made is None:
        made = _made[cluster_bytes] = packed([2 * cluster_bytes]).ljust(2 * cluster_bytes, b"\0")
    return made


_made: dict[int, bytes] = {}


async def _write(edge: Edge, offset: int, payload: bytes, what: str) -> None:
    try:
        await edge.write(offset, payload)
    except OSError as error:
        raise QmpError(f"{what}: {strerror(error.errno or EIO)}") from None


async def _open_again(graph: Graph, edge: Edge, header: Header) -> None:
    """Raises QmpError."""
    try:
        await _read_again(edge, header)
    except QmpError:
        # A node that could not be opened is closed, which takes twice as long.
        await graph.changing()
        await graph.changing()
        raise


async def _read_again(edge: Edge, header: Header) -> None:
    """What was written is opened, as any image is: there is storage that keeps nothing (null-co)."""
    try:
        if (await edge.read(0, _LEAST_BYTES)) != header.encode()[:_LEAST_BYTES]:
            await read_header(edge.read, True)
    except OSError as error:
        raise QmpError(f"Could not read qcow2 header: {strerror(error.errno or EIO)}") from None


async def _name_backing(driver: Qcow2, backing_file: str, backing_format: str) -> None:
    try:
        await driver.change_backing_file(backing_file, backing_format)
    except QmpError:
        named = f"'{backing_format}'" if backing_format else "'(null)'"
        raise QmpError(
            f"Could not assign backing file '{backing_file}' with format {named}: Invalid argument"
        ) from None


def _checked_header(graph: Graph, options: dict[str, Any]) -> Header:
    """The header of an empty image; the checks come in QEMU's order."""
    if int(options["size"]) % 512:
        raise QmpError("Image size must be a multiple of 512 bytes")
    version = 2 if options.get("version") == "v2" else 3
    cluster_bytes = int(options.get("cluster-size", 65536))
    extended = bool(options.get("extended-l2", False))
    if extended and version < 3:
        raise QmpError(
            "Extended L2 entries are only supported with compatibility level 1.1 and above "
            "(use version=v3 or greater)"
        )
    cluster_bits = cluster_bytes.bit_length() - 1
    if cluster_bytes != 1 << max(cluster_bits, 0) or not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        raise QmpError(
            f"Cluster size must be a power of two between {1 << MIN_CLUSTER_BITS} and "
            f"{1 << MAX_CLUSTER_BITS - 10}k"
        )
    if extended and cluster_bytes < _LEAST_EXTENDED_BYTES:
        raise QmpError(
            "Extended L2 entries are only supported with cluster sizes of at least "
            f"{_LEAST_EXTENDED_BYTES} bytes"
        )
    has_backing = options.get("backing-file") is not None
    if has_backing and options.get("preallocation", "off") != "off" and not extended:
        raise QmpError(
            "Backing file and preallocation can only be used at the same time if extended_l2 is on"
        )
    if options.get("backing-fmt") is not None and not has_backing:
        raise QmpError("Backing format cannot be used without backing file")
    lazy = bool(options.get("lazy-refcounts", False))
    if version < 3 and lazy:
        raise QmpError(
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)"
        )
    header = Header(version, cluster_bits, _refcount_order(version, int(options.get("refcount-bits", 16))))
    _check_the_rest(graph, version, options)
    header.compatible = LAZY_REFCOUNTS if lazy else 0
    if extended:
        header.incompatible |= EXTENDED_L2
    if options.get("data-file") is not None:
        header.incompatible |= DATA_FILE
        header.autoclear = RAW_OUTSIDE if options.get("data-file-raw") else 0
    if options.get("compression-type", "zlib") == "zstd":
        header.compression_type = 1
        header.incompatible |= COMPRESSION
    header.reftable_offset, header.reftable_clusters = cluster_bytes, 1
    return header


def _refcount_order(version: int, refcount_bits: int) -> int:
    if refcount_bits < 1 or refcount_bits > 64 or refcount_bits & (refcount_bits - 1):
        raise QmpError("Refcount width must be a power of two and may not exceed 64 bits")
    if version < 3 and refcount_bits != 16:
        raise QmpError(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above "
            "(use version=v3 or greater)"
        )
    return refcount_bits.bit_length() - 1


def _check_the_rest(graph: Graph, version: int, options: dict[str, Any]) -> None:
    if options.get("data-file-raw") and options.get("data-file") is None:
        raise QmpError("data-file-raw requires data-file")
    if options.get("data-file-raw") and options.get("backing-file") is not None:
        raise QmpError("Backing file and data-file-raw cannot be used at the same time")
    if options.get("data-file") is not None and version < 3:
        raise QmpError(
            "External data files are only supported with compatibility level 1.1 and above "
            "(use version=v3 or greater)"
        )
    data_file = options.get("data-file")
    if isinstance(data_file, str):
        graph.lookup(data_file, data_file)
    if options.get("compression-type", "zlib") != "zlib" and version < 3:
        raise QmpError(
            "Non-zlib compression type is only supported with compatibility level 1.1 and above "
            "(use version=v3 or greater)"
        )


def _check_key(encrypt: dict[str, Any]) -> None:
    """Of an image that is all there but for its encryption (qcow2_set_up_encryption, block/qcow2.c:3150)."""
    if encrypt.get("key-secret") is None:
        raise QmpError("Parameter 'encrypt.key-secret' is required for cipher")
    raise QmpError("Encrypted images are not simulated")
