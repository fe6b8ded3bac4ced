"""The format of an image of which nothing was said: by how it begins (bdrv_probe_all, block.c, 7.2; the probe
functions in block/FORMAT.c)."""

from __future__ import annotations

HEAD_BYTES = 512  # BLOCK_PROBE_BUF_SIZE
# (format, where its mark is, the mark)
_MARKS = (
    ("qcow", 0, b"QFI\xfb\0\0\0\1"),
    ("qcow2", 0, b"QFI\xfb\0\0\0\2"),
    ("qcow2", 0, b"QFI\xfb\0\0\0\3"),
    ("luks", 0, b"LUKS\xba\xbe\0\1"),
    ("qed", 0, b"QED\0"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vpc", 0, b"conectix"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image\0"),
)


def format_of(head: bytes) -> str:
    """Of the first bytes of an image."""
    for name, offset, mark in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return name
    return "raw"
