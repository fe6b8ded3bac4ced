"""The format of an image of which nothing was said: by how it begins (bdrv_probe_all, block.c, 7.2; the probe
functions in block/FORMAT.c)."""

from __future__ import annotations

from simulator.block.drivers import driver_class
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node
    from simulator.block.option_texts import Written

PROBED_RAW = (
    "WARNING: Image format was not specified for '{}' and probing guessed raw.\n"
    "         Automatically detecting the format is dangerous for raw images, "
    "write operations on block 0 will be restricted.\n"
    "         Specify the 'raw' format explicitly to remove the restrictions."
)
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


async def find_format(node: Node, file: Node | None) -> QmpError | None:
    """Where nothing was said of the format of what is in a file, which is open now. An option that the format
    does not have is looked for when all else has been well."""
    options: Written = node.options  # type: ignore[assignment]
    if file is None or getattr(options, "read_as", None) is None:
        return None
    found = format_of(await file.read(0, min(HEAD_BYTES, file.size_bytes)))
    if found != "raw":
        node.driver = driver_class(found)(node)
    elif not node.read_only:
        node.graph.warnings.append(PROBED_RAW.format(file.filename))
    assert options.read_as is not None
    try:
        written = options.read_as(found)
    except QmpError as error:
        options["driver"] = found
        return error
    options.update(written)
    options.texts.update(written.texts)
    return None
