"""The header of a qcow2 image and its extensions, read, checked and written.

Source: docs/interop/qcow2.txt ("Header", "Header extensions"); checks in qcow2_do_open, block/qcow2.c, 7.2.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

_UINT64_MAX = (1 << 64) - 1
MAGIC = 0x514649FB
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_L1_BYTES = 32 << 20
MAX_REFTABLE_BYTES = 8 << 20

# Incompatible feature bits.
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
_KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
LAZY_REFCOUNTS = 1  # compatible
BITMAPS, RAW_OUTSIDE = 1, 2  # autoclear
INCOMPATIBLE_AT = 72  # the place of those bits in the header
KNOWN_AUTOCLEAR = BITMAPS | RAW_OUTSIDE

_V2 = Struct(">IIQIIQIIQQIIQ")
_V3 = Struct(">QQQII")
_FIRST_BYTES = 4096  # seldom is there more in a header
_READ_IN_PARTS_BYTES = 65536  # a cluster of at most so many bytes is read whole only if it has to be
_EXTENSION = Struct(">II")
_V3_BYTES = 112  # as QEMU writes it: with the compression type and padding

_BACKING_FORMAT = 0xE2792ACA
_FEATURE_TABLE = 0x6803F857
_BITMAPS = 0x23852875
_CRYPTO = 0x0537BE77
_DATA_FILE_NAME = 0x44415441

# (type, bit, name); type 0 is incompatible, 1 compatible, 2 autoclear.
_FEATURE_NAMES = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)
_FEATURE_ENTRIES = b"".join(
    bytes((kind, bit)) + name.encode().ljust(46, b"\0") for kind, bit, name in _FEATURE_NAMES
)


class Header:
    """All fields; offsets and sizes in bytes. `others` keeps extensions that are not known, as (magic,
    payload).

    bitmaps_*: the bitmaps extension; all 0 without one.
    """

    def __init__(self, version: int, cluster_bits: int, refcount_order: int) -> None:
        self.version = version
        self.cluster_bits = cluster_bits
        self.cluster_bytes = 1 << cluster_bits
        self.incompatible = 0
        self.refcount_order = refcount_order
        self.size_bytes = 0
        self.crypt_method = 0
        self.l1_entries = 0
        self.l1_offset = 0
        self.reftable_offset = 0
        self.reftable_clusters = 0
        self.snapshot_count = 0
        self.snapshots_offset = 0
        self.compatible = 0
        self.autoclear = 0
        self.compression_type = 0
        self.backing_file = ""
        self.backing_format = ""
        self.data_file = ""
        self.encryption: bytes | None = None  # that extension
        self.bitmap_count = 0
        self.bitmap_directory_offset = 0
        self.bitmap_directory_bytes = 0
        self.more_fields = b""
        self.others: list[tuple[int, bytes]] = []
        self.feature_entries = b""  # as read: 48 bytes each, type, bit and name

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    @property
    def extended_l2(self) -> bool:
        return bool(self.incompatible & EXTENDED_L2)

    @property
    def has_data_file(self) -> bool:
        return bool(self.incompatible & DATA_FILE)

    @property
    def is_raw_outside(self) -> bool:
        """Whether the data file must always read as the disk does."""
        return bool(self.autoclear & RAW_OUTSIDE)

    @property
    def l2_entry_bytes(self) -> int:
        return 16 if self.extended_l2 else 8

    @property
    def l2_shift(self) -> int:
        """So many bits of a guest offset are inside one L2 table."""
        return 2 * self.cluster_bits - (4 if self.extended_l2 else 3)

    @property
    def subcluster_bits(self) -> int:
        """Of what is allocated or zero by itself: a cluster, or with extended L2 entries a part of it."""
        return self.cluster_bits - 5 if self.extended_l2 else self.cluster_bits

    @property
    def subcluster_bytes(self) -> int:
        return 1 << self.subcluster_bits

    def l1_entries_for(self, size_bytes: int) -> int:
        """How many L1 entries cover a disk of this size."""
        shift = self.l2_shift
        return (size_bytes + (1 << shift) - 1 & _UINT64_MAX) >> shift

    def describe(self, bitmaps: list[dict[str, Any]], takes_data_file: bool) -> dict[str, Any]:
        """ImageInfoSpecificQCow2; `bitmaps` as it has them (qcow2_get_specific_info)."""
        if self.version == 2:
            return {"compat": "0.10", "compression-type": "zlib", "refcount-bits": self.refcount_bits}
        return {
            "compat": "1.1",
            "compression-type": "zstd" if self.compression_type else "zlib",
            **self._describe_data_file(takes_data_file),
            "lazy-refcounts": bool(self.compatible & LAZY_REFCOUNTS),
            **({"bitmaps": bitmaps} if bitmaps else {}),
            "refcount-bits": self.refcount_bits,
            "corrupt": bool(self.incompatible & CORRUPT),
            "extended-l2": self.extended_l2,
        }

    def _describe_data_file(self, takes_data_file: bool) -> dict[str, Any]:
        named = {"data-file": self.data_file} if self.data_file else {}
        return {**named, "data-file-raw": self.is_raw_outside} if takes_data_file else named

    def encode(self) -> bytes:
        """The whole first cluster. OSError-free; raises QmpError if names and extensions do not fit."""
        extensions = self._encode_extensions()
        fixed = (_V2.size if self.version == 2 else _V3_BYTES) + len(self.more_fields)
        name = self.backing_file.encode()
        name_offset = fixed + len(extensions) if name else 0
        head = _V2.pack(
            MAGIC, self.version, name_offset, len(name), self.cluster_bits, self.size_bytes,
            self.crypt_method, self.l1_entries, self.l1_offset, self.reftable_offset, self.reftable_clusters,
            self.snapshot_count, self.snapshots_offset,
        )  # fmt: skip
        if self.version == 3:
            head += _V3.pack(self.incompatible, self.compatible, self.autoclear, self.refcount_order, fixed)
            head += bytes([self.compression_type]) + bytes(7)
        whole = head + self.more_fields + extensions + name
        if len(whole) > self.cluster_bytes:
            raise QmpError("Could not update qcow2 header: No space left on device")
        return _filled_up(whole, self.cluster_bytes)

    def _encode_extensions(self) -> bytes:
        out = b""
        if self.backing_format:
            out += _extension(_BACKING_FORMAT, self.backing_format.encode())
        if self.data_file:
            out += _extension(_DATA_FILE_NAME, self.data_file.encode())
        # A table of feature names would leave no room for a backing file's name in a small cluster.
        if self.version == 3 and self.cluster_bytes > 4096:
            out += _extension(_FEATURE_TABLE, _FEATURE_ENTRIES)
        if self.bitmap_count:
            fields = (self.bitmap_count, 0, self.bitmap_directory_bytes, self.bitmap_directory_offset)
            out += _extension(_BITMAPS, Struct(">IIQQ").pack(*fields))
        for magic, payload in self.others:
            out += _extension(magic, payload)
        return out + bytes(8)


@lru_cache(maxsize=4)
def _filled_up(header: bytes, cluster_bytes: int) -> bytes:
    """One object for headers that are the same, as those of new images of one kind are: it is mostly zeroes,
    and an image in memory keeps it."""
    return header.ljust(cluster_bytes, b"\0")


def _extension(magic: int, payload: bytes) -> bytes:
    return _EXTENSION.pack(magic, len(payload)) + payload + bytes(-len(payload) % 8)


async def read_header(
    read: Callable[[int, int], Awaitable[bytes]], writable: bool, has_zstd: bool = True
) -> Header:
    """Read and check the header through `read(offset, length)`. Raises QmpError in QEMU's words."""
    head = await read(0, _FIRST_BYTES)
    fields = _V2.unpack_from(head)
    if fields[0] != MAGIC:
        raise QmpError("Image is not in qcow2 format")
    if fields[1] not in (2, 3):
        raise QmpError(f"Unsupported qcow2 version {fields[1]}")
    if not MIN_CLUSTER_BITS <= fields[4] <= MAX_CLUSTER_BITS:
        raise QmpError(f"Unsupported cluster size: 2^{fields[4]}")
    header = Header(fields[1], fields[4], 4)
    name_offset, name_bytes = fields[2], fields[3]
    header.size_bytes, header.crypt_method, header.l1_entries, header.l1_offset = fields[5:9]
    header.reftable_offset, header.reftable_clusters = fields[9:11]
    header.snapshot_count, header.snapshots_offset = fields[11:13]
    length = _V2.size
    if header.version == 3:
        header.incompatible, header.compatible, header.autoclear, header.refcount_order, length = (
            _V3.unpack_from(head, _V2.size)
        )
        if length < _V2.size + _V3.size:
            raise QmpError("qcow2 header too short")
        if length > _V2.size + _V3.size:
            header.compression_type = head[_V2.size + _V3.size]
    if length > header.cluster_bytes:
        raise QmpError("qcow2 header exceeds cluster size")
    if name_offset > header.cluster_bytes:
        raise QmpError("Invalid backing file offset")
    size, end = header.cluster_bytes, name_offset or header.cluster_bytes
    used = max(_extensions_end(head, length, end), name_offset and name_offset + name_bytes)
    cluster = head[:size]
    if used > len(head) or size > _READ_IN_PARTS_BYTES:
        cluster = await read(0, size)
    if header.version == 3 and length > _V3_BYTES:
        header.more_fields = cluster[_V3_BYTES:length]
    _check_compression(header, has_zstd)
    if header.incompatible & ~_KNOWN_INCOMPATIBLE:
        _read_extensions(header, cluster, length, end)
        raise QmpError(_unsupported(header, header.incompatible & ~_KNOWN_INCOMPATIBLE))
    if header.incompatible & CORRUPT and writable:
        raise QmpError("qcow2: Image is corrupt; cannot be opened read/write")
    if header.subcluster_bits < MIN_CLUSTER_BITS:
        raise QmpError(f"Unsupported subcluster size: {header.subcluster_bytes}")
    if header.refcount_order > 6:
        raise QmpError("Reference count entry width too large; may not exceed 64 bits")
    if header.crypt_method == 1:
        raise _no_aes()
    check_tables(header)
    _read_extensions(header, cluster, length, end)
    if name_offset:
        if name_bytes > min(1023, header.cluster_bytes - name_offset):
            raise QmpError("Backing file name too long")
        header.backing_file = cluster[name_offset : name_offset + name_bytes].decode(errors="replace")
    return header


def _check_compression(header: Header, has_zstd: bool) -> None:
    if header.compression_type > (1 if has_zstd else 0):
        raise QmpError(f"qcow2: unknown compression type: {header.compression_type}")
    if bool(header.compression_type) != bool(header.incompatible & COMPRESSION):
        wanted = "must be set" if header.compression_type else "must not be set"
        raise QmpError(f"qcow2: Compression type incompatible feature bit {wanted}")


def _no_aes() -> QmpError:
    refusal = QmpError("Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators")
    refusal.hint = (
        "You can use 'qemu-img convert' to convert your image to an alternative supported format, "
        "such as unencrypted qcow2, or raw with the LUKS format instead.\n"
    )
    return refusal


def check_tables(header: Header) -> None:
    """Where the tables lie and how big they are. Raises QmpError."""
    if header.reftable_clusters == 0:
        raise QmpError("Image does not contain a reference count table")
    reftable_bytes = header.reftable_clusters * header.cluster_bytes
    _check_table(header, header.reftable_offset, reftable_bytes, MAX_REFTABLE_BYTES, "Reference count table")
    _check_table(header, header.snapshots_offset, header.snapshot_count * 40, 65536 * 40, "Snapshot table")
    _check_table(header, header.l1_offset, header.l1_entries * 8, MAX_L1_BYTES, "Active L1 table")
    needed = header.l1_entries_for(header.size_bytes)
    if needed > 0x7FFFFFFF:
        raise QmpError("Image is too big")
    if header.l1_entries < needed:
        raise QmpError("L1 table is too small")


def _check_table(header: Header, offset: int, length: int, most: int, name: str) -> None:
    if length > most:
        raise QmpError(f"{name} too large")
    if offset + length >= 1 << 63 or offset % header.cluster_bytes:
        raise QmpError(f"{name} offset invalid")


def _unsupported(header: Header, bits: int) -> str:
    names = []
    for bit, name in _incompatible_names(header.feature_entries).items():
        if bits >> bit & 1:
            names.append(name[:46])
            bits &= ~(1 << bit)
    if bits:
        names.append(f"Unknown incompatible feature: {bits:x}")
    return "Unsupported qcow2 feature(s): " + ", ".join(names)


def c_text(stored: bytes) -> str:
    """Up to the first zero, whatever follows it."""
    return stored.split(b"\0", 1)[0].decode(errors="replace")


def _incompatible_names(entries: bytes) -> dict[int, str]:
    """Bit -> name, from the table of names that an image may bring."""
    return {
        entries[at + 1]: c_text(entries[at + 2 : at + 48])
        for at in range(0, len(entries) - 47, 48)
        if entries[at] == 0
    }


def _extensions_end(head: bytes, offset: int, end: int) -> int:
    """Behind the last of the extensions that begin at `offset`; more than `head` has if that shows not all of
    them."""
    while offset < end and offset + 8 <= len(head):
        magic, length = _EXTENSION.unpack_from(head, offset)
        offset += 8
        if magic == 0:
            return offset
        offset += length + -length % 8
    return offset if offset >= end else offset + 8


def _read_extensions(header: Header, cluster: bytes, offset: int, end: int) -> None:
    header.others = []
    while offset < end:
        magic, length = _EXTENSION.unpack(cluster[offset : offset + 8].ljust(8, b"\0"))
        offset += 8
        if offset > end or length > end - offset:
            raise QmpError("Header extension too large")
        payload = cluster[offset : offset + length]
        offset += length + -length % 8
        if magic == 0:
            return
        if magic == _BACKING_FORMAT:
            if length >= 16:
                raise QmpError(f"ERROR: ext_backing_format: len={length} too large (>=16)")
            header.backing_format = payload.decode(errors="replace")
        elif magic == _FEATURE_TABLE:
            header.feature_entries = payload
        elif magic == _BITMAPS:
            _read_bitmaps_extension(header, payload)
        elif magic == _DATA_FILE_NAME:
            header.data_file = c_text(payload)
        elif magic == _CRYPTO:
            header.encryption = payload
        else:
            header.others.append((magic, payload))


def _read_bitmaps_extension(header: Header, payload: bytes) -> None:
    if len(payload) != 24:
        raise QmpError("bitmaps_ext: Invalid extension length")
    # Without the autoclear bit somebody wrote the image who knew no bitmaps: they are not to be trusted.
    if not header.autoclear & BITMAPS:
        return
    count, reserved, size, offset = Struct(">IIQQ").unpack(payload)
    if reserved:
        raise QmpError("bitmaps_ext: Reserved field is not zero")
    if count > 65535:
        raise QmpError(
            f"bitmaps_ext: Image has {count} bitmaps, exceeding the QEMU supported maximum of 65535"
        )
    if not count:
        raise QmpError("found bitmaps extension with zero bitmaps")
    if offset % header.cluster_bytes:
        raise QmpError("bitmaps_ext: invalid bitmap directory offset")
    if size > 65535 * 1024:
        raise QmpError(
            f"bitmaps_ext: bitmap directory size ({size}) exceeds the maximum supported size ({65535 * 1024})"
        )
    header.bitmap_count, header.bitmap_directory_bytes, header.bitmap_directory_offset = count, size, offset
