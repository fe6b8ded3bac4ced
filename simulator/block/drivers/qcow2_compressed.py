"""Compressed clusters of a qcow2 image: several share a cluster of the file.

Source: docs/interop/qcow2.txt, "Compressed Clusters Descriptor"; block/qcow2-threads.c and
qcow2_co_pwritev_compressed_part in block/qcow2.c, 7.2.
"""

from __future__ import annotations

import zlib
from errno import EINVAL, EIO, ENOTSUP
from os import strerror

from simulator.block.drivers.qcow2_kinds import COMPRESSED, OFFSET_MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2 import Qcow2
    from simulator.block.drivers.qcow2_header import Header

_SECTOR_BYTES = 512
_WINDOW_BITS = -12
_MEMORY_LEVEL = 9


def _size_shift(header: Header) -> int:
    """Where in an entry the number of sectors begins; below it is the host offset."""
    return 62 - (header.cluster_bits - 8)


def place(header: Header, entry: int) -> tuple[int, int]:
    """(host offset, length) of a compressed cluster."""
    shift = _size_shift(header)
    host = entry & (1 << shift) - 1
    sectors = (entry >> shift & (1 << header.cluster_bits - 8) - 1) + 1
    return host, sectors * _SECTOR_BYTES - (host & _SECTOR_BYTES - 1)


async def read(driver: Qcow2, entry: int) -> bytes:
    """The whole cluster. Raises OSError."""
    host, length = place(driver.header, entry)
    size = driver.header.cluster_bytes
    if driver.header.compression_type:
        raise OSError(EIO, strerror(EIO))  # zstd
    try:
        await driver.file.event("read_compressed")
        packed = await driver.file.read(host, length)
        cluster = zlib.decompressobj(_WINDOW_BITS).decompress(packed, size)
    except zlib.error:
        cluster = b""
    if len(cluster) != size:
        raise OSError(EIO, strerror(EIO))
    return cluster


async def write(driver: Qcow2, offset: int, payload: bytes) -> None:
    """Whole clusters, of which only the disk's last one may be shorter. What compression does not make
    smaller is written as it is. Raises OSError, EIO for a cluster that has its place already."""
    if driver.header.has_data_file or driver.header.compression_type:
        raise OSError(ENOTSUP, strerror(ENOTSUP))  # zstd
    size = driver.header.cluster_bytes
    end = offset + len(payload)
    if offset % size or (len(payload) % size and end != driver.node.size_bytes):
        raise OSError(EINVAL, strerror(EINVAL))
    for start in range(offset, end, size):
        cluster = payload[start - offset : start - offset + size]
        packed = _compress(cluster.ljust(size, b"\0"))
        if len(packed) < size:
            await _write_packed(driver, start, packed)
        else:
            await driver.write(start, cluster, 0)


def _compress(cluster: bytes) -> bytes:
    packer = zlib.compressobj(-1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY)
    return packer.compress(cluster) + packer.flush()


async def _write_packed(driver: Qcow2, offset: int, packed: bytes) -> None:
    header, tables = driver.header, driver.tables
    table = await tables.own(offset)
    if tables.at(table, offset)[0] & OFFSET_MASK:
        raise OSError(EIO, strerror(EIO))
    await driver.file.event("cluster_alloc_bytes")
    host = driver.refcounts.allocate_bytes(len(packed))
    await driver.file.event("l2_update_compressed")
    sectors = (host + len(packed) - 1) // _SECTOR_BYTES - host // _SECTOR_BYTES
    tables.set(offset, COMPRESSED | sectors << _size_shift(header) | host)
    await driver.file.event("write_compressed")
    await driver.file.write(host, packed)
