"""qemu-img convert and compare: all bytes of an image (qemu-img.c, 7.2)."""

from __future__ import annotations

from os import strerror

from simulator.block.driver import STATUS_ALLOCATED, STATUS_ZERO
from simulator.block.errors import QmpError
from simulator.block.status import status_above
from simulator.image_tool.bench import ToolError, described
from simulator.image_tool.bitmaps import check_bitmaps, copy_bitmaps
from simulator.image_tool.create import QCOW2_OPTIONS, RAW_OPTIONS, write_image
from simulator.image_tool.options import UsageError, image_options, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend
    from simulator.block.node import Node
    from simulator.image_tool.bench import Bench

_CHUNK_BYTES = 2 << 20  # IO_BUF_SIZE


async def convert(bench: Bench, argv: list[str]) -> int:
    """From one image into a new raw or qcow2 one."""
    arguments = parse(argv, "hf:O:o:pqUnt:T:m:W", "object: bitmaps skip-broken-bitmaps")
    if len(arguments.rest) != 2:
        raise UsageError("Must specify image file name")
    with_bitmaps, skip_broken = arguments.has("bitmaps"), arguments.has("skip-broken-bitmaps")
    if skip_broken and not with_bitmaps:
        raise ToolError("Use of --skip-broken-bitmaps requires --bitmaps")
    source_path, target_path = arguments.rest
    target_format = arguments.get("O") or "raw"
    if target_format not in ("raw", "qcow2"):
        raise ToolError(f"Unknown file format '{target_format}'")
    source = await bench.open(source_path, arguments.get("f"), force_share=arguments.has("U"))
    size = bench.node_of(source).size_bytes
    if with_bitmaps:
        check_bitmaps(bench.node_of(source), skip_broken)
    if not arguments.has("n"):
        known = QCOW2_OPTIONS if target_format == "qcow2" else RAW_OPTIONS
        options = {**image_options(arguments.lists, known, target_path), "size": str(size)}
        try:
            await write_image(bench, target_path, target_format, options)
        except QmpError as error:
            raise ToolError(
                f"{target_path}: error while converting {target_format}: {described(error)}"
            ) from None
    target = await bench.open(target_path, target_format, writable=True)
    if with_bitmaps and not bench.node_of(target).driver.can_store_bitmaps:
        raise ToolError(f"Format driver '{target_format}' does not support bitmaps")
    if bench.node_of(target).size_bytes < size:
        raise ToolError("output file is smaller than input file")
    try:
        await _copy(bench.node_of(source), source, target, size, may_hold_bytes=arguments.has("n"))
        await target.flush()
    except OSError as error:
        raise ToolError(f"error while converting: {strerror(error.errno or 0)}") from None
    if with_bitmaps:
        copy_bitmaps(bench, bench.node_of(source), bench.node_of(target))
    await bench.close(target)
    await bench.close(source)
    return 0


async def _copy(
    node: Node, source: BlockBackend, target: BlockBackend, size: int, may_hold_bytes: bool
) -> None:
    """Zeroes are left out of a new target, whose every byte is zero."""
    offset = 0
    while offset < size:
        flags, length, _ = await status_above(node, None, offset, size - offset)
        if flags & STATUS_ZERO:
            if may_hold_bytes:
                await target.write_zeroes(offset, length, 0)
            offset += length
            continue
        length = min(length, _CHUNK_BYTES)
        payload = await source.read(offset, length)
        if may_hold_bytes or any(payload):
            await target.write(offset, payload, 0)
        offset += length


async def compare(bench: Bench, argv: list[str]) -> int:
    """0: the same bytes; 1: not; above 1: an error."""
    arguments = parse(argv, "hf:F:T:pqsU", "object:")
    if len(arguments.rest) != 2:
        raise UsageError("Expecting two image file names")
    opened: list[BlockBackend] = []
    for path, letter in zip(arguments.rest, "fF", strict=True):
        try:
            opened.append(await bench.open(path, arguments.get(letter), force_share=arguments.has("U")))
        except ToolError as failure:
            raise ToolError(str(failure), 2) from None
    sizes = [bench.node_of(backend).size_bytes for backend in opened]
    if arguments.has("s") and sizes[0] != sizes[1]:
        _say(bench, arguments.has("q"), "Strict mode: Image size mismatch!")
        return 1
    different = await _first_difference(bench, opened, max(sizes))
    if different is not None and different < min(sizes):
        _say(bench, arguments.has("q"), f"Content mismatch at offset {different}!")
        return 1
    if sizes[0] != sizes[1]:
        _say(bench, arguments.has("q"), "Warning: Image size mismatch!")
    if different is not None:
        _say(bench, arguments.has("q"), f"Content mismatch at offset {different}!")
        return 1
    _say(bench, arguments.has("q"), "Images are identical.")
    return 0


def _say(bench: Bench, quiet: bool, text: str) -> None:
    if not quiet:
        bench.print(text)


async def _first_difference(bench: Bench, images: list[BlockBackend], size: int) -> int | None:
    """The first offset at which they differ; behind its end an image reads as zero."""
    offset = 0
    while offset < size:
        length, zero = size - offset, True
        for image in images:
            node = bench.node_of(image)
            if offset >= node.size_bytes:
                continue
            flags, run, _ = await status_above(node, None, offset, min(length, node.size_bytes - offset))
            length = run
            zero = zero and bool(flags & STATUS_ZERO or not flags & STATUS_ALLOCATED)
        if not zero:
            length = min(length, _CHUNK_BYTES)
            left, right = [await bench.node_of(image).read(offset, length) for image in images]
            if left != right:
                return offset + next(at for at, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
        offset += length
    return None
