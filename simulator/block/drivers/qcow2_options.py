"""Options of a qcow2 node that tune its caches and checks: they change nothing here, and are refused as QEMU
refuses them.

Source: read_cache_sizes and qcow2_update_options_prepare, block/qcow2.c:853-1105, 7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2_header import Header

CACHE_SIZES = ("cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size")
_INT_MAX = (1 << 31) - 1
_UINT_MAX = (1 << 32) - 1
_SMALLEST_ENTRY = 512
_DEFAULT_L2_BYTES = 32 << 20


def check(options: dict[str, Any], header: Header) -> None:
    """Raises QmpError."""
    _check_caches(options, header)
    # A negative interval is a large one to QEMU.
    if not 0 <= options.get("cache-clean-interval", 0) <= _UINT_MAX:
        raise QmpError("Cache clean interval too big")
    if options.get("lazy-refcounts") and header.version < 3:
        raise QmpError("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level")
    encryption = options.get("encrypt")
    if encryption is not None:
        raise QmpError(
            f"No encryption in image header, but options specified format '{encryption['format']}'"
        )


def _check_caches(options: dict[str, Any], header: Header) -> None:
    both, l2, entry, refcounts = (options.get(name) for name in CACHE_SIZES)
    if both is not None:
        if l2 is not None and refcounts is not None:
            raise QmpError(
                "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
            )
        if l2 is not None and l2 > both:
            raise QmpError("l2-cache-size may not exceed cache-size")
        if refcounts is not None and refcounts > both:
            raise QmpError("refcount-cache-size may not exceed cache-size")
    cluster = header.cluster_bytes
    if entry is not None and (not _SMALLEST_ENTRY <= entry <= cluster or entry & (entry - 1)):
        raise QmpError(
            f"L2 cache entry size must be a power of two between {_SMALLEST_ENTRY} and the cluster size "
            f"({cluster})"
        )
    clusters = -(-header.size_bytes // cluster)
    whole = -(-clusters * header.l2_entry_bytes // cluster) * cluster
    used = min(whole, _DEFAULT_L2_BYTES if l2 is None else l2)
    if both is not None and l2 is not None:
        refcounts = both - used
    if refcounts is not None and refcounts // cluster > _INT_MAX:
        raise QmpError("Refcount cache size too big")
