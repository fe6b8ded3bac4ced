"""qemu-img info, check and map: what an image says of itself (qemu-img.c and block/qapi.c, 7.2)."""

from __future__ import annotations

from json import dumps
from math import frexp
from os import strerror
from posixpath import dirname, isabs, join

from simulator.block.driver import STATUS_ALLOCATED, STATUS_DATA, STATUS_OFFSET_VALID, STATUS_RAW, STATUS_ZERO
from simulator.block.drivers import qcow2_check
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.errors import QmpError
from simulator.block.status import status_of
from simulator.image_tool.bench import ToolError
from simulator.image_tool.options import UsageError, parse, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.image_tool.bench import Bench
    from simulator.image_tool.options import Arguments


def _wants_json(arguments: Arguments) -> bool:
    output = arguments.get("output")
    if output not in (None, "human", "json"):
        raise ToolError("--output must be used with human or json as argument.")
    return output == "json"


def _one_file(arguments: Arguments) -> str:
    if len(arguments.rest) != 1:
        raise UsageError("Expecting one image file name")
    return arguments.rest[0]


# info


async def info(bench: Bench, argv: list[str]) -> int:
    arguments = parse(argv, "hf:U", "output: backing-chain object:")
    path, as_json = _one_file(arguments), _wants_json(arguments)
    image_format = arguments.get("f")
    found: list[dict[str, Any]] = []
    seen = []
    while path:
        if path in seen:
            raise ToolError(f"Backing file '{path}' creates an infinite loop.")
        seen.append(path)
        described = await _image_info(bench, path, image_format, arguments.has("U"))
        found.append(described)
        if not arguments.has("backing-chain"):
            break
        path = described.get("full-backing-filename", "")
        image_format = described.get("backing-filename-format")
    if as_json:
        bench.print(dumps(found if arguments.has("backing-chain") else found[0], indent=4))
    else:
        bench.print("\n\n".join(_info_text(described) for described in found))
    return 0


async def _image_info(bench: Bench, path: str, image_format: str | None, force_share: bool) -> dict[str, Any]:
    """ImageInfo of one image alone (bdrv_query_image_info)."""
    backend = await bench.open(path, image_format, backing=False, force_share=force_share, io=False)
    node = bench.node_of(backend)
    driver = node.driver
    described: dict[str, Any] = {
        "virtual-size": node.size_bytes,
        "filename": path,
        "format": driver.format_name,
        "dirty-flag": False,
    }
    actual = driver.actual_size_bytes()
    if actual is not None:
        described["actual-size"] = actual
    described.update(driver.image_info())
    if isinstance(driver, Qcow2) and driver.backing_file:
        backing = driver.backing_file
        described["backing-filename"] = backing
        described["full-backing-filename"] = backing if isabs(backing) else join(dirname(path), backing)
        if driver.backing_format:
            described["backing-filename-format"] = driver.backing_format
    await bench.close(backend)
    return described


def _info_text(described: dict[str, Any]) -> str:
    size = described["virtual-size"]
    actual = described.get("actual-size")
    lines = [
        f"image: {described['filename']}",
        f"file format: {described['format']}",
        f"virtual size: {size_text(size)} ({size} bytes)",
        f"disk size: {'unavailable' if actual is None else size_text(actual)}",
    ]
    if "cluster-size" in described:
        lines.append(f"cluster_size: {described['cluster-size']}")
    if described["dirty-flag"]:
        lines.append("cleanly shut down: no")
    if "backing-filename" in described:
        backing, full = described["backing-filename"], described["full-backing-filename"]
        lines.append(f"backing file: {backing}" + (f" (actual path: {full})" if full != backing else ""))
        if "backing-filename-format" in described:
            lines.append(f"backing file format: {described['backing-filename-format']}")
    if "format-specific" in described:
        lines.append("Format specific information:")
        lines += _dump(described["format-specific"]["data"], 1)
    return "\n".join(lines)


def _dump(value: dict[str, Any] | list[Any], depth: int) -> list[str]:
    """dump_qdict and dump_qlist."""
    lines = []
    if isinstance(value, dict):
        entries = [(name.replace("-", " "), entry) for name, entry in value.items()]
    else:
        entries = [(f"[{number}]", entry) for number, entry in enumerate(value)]
    for name, entry in entries:
        margin = "    " * depth
        if isinstance(entry, (dict, list)):
            lines.append(f"{margin}{name}:")
            lines += _dump(entry, depth + 1)
        else:
            text = {True: "true", False: "false"}[entry] if isinstance(entry, bool) else str(entry)
            lines.append(f"{margin}{name}: {text}")
    return lines


def size_text(size: int) -> str:
    """Three digits and a binary unit (size_to_str, util/cutils.c)."""
    exponent = frexp(size / (1000.0 / 1024.0))[1]
    unit = max(0, (exponent - 1) // 10)
    return f"{size / (1 << 10 * unit):.3g} {('', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei')[unit]}B"


# check


async def check(bench: Bench, argv: list[str]) -> int:
    arguments = parse(argv, "hf:r:T:qU", "output: object:")
    path, as_json = _one_file(arguments), _wants_json(arguments)
    repair = arguments.get("r")
    if repair not in (None, "leaks", "all"):
        raise UsageError(f"Unknown option value for -r (expecting 'leaks' or 'all'): {repair}")
    backend = await bench.open(
        path, arguments.get("f"), writable=repair is not None, force_share=arguments.has("U")
    )
    driver = bench.node_of(backend).driver
    if not isinstance(driver, Qcow2):
        await bench.close(backend)
        raise ToolError("This image format does not support checks", 63)
    fixed = None
    try:
        if repair is not None:
            fixed = await qcow2_check.repair(driver, leaks_only=repair == "leaks")
        result = await qcow2_check.check(driver)
    except (OSError, QmpError) as error:
        reason = error.desc if isinstance(error, QmpError) else strerror(error.errno or 0)
        raise ToolError(f"Check failed: {reason}") from None
    await bench.close(backend)
    quiet = arguments.has("q")
    if fixed is not None and (fixed.leaks_fixed or fixed.corruptions_fixed):
        result.leaks_fixed, result.corruptions_fixed = fixed.leaks_fixed, fixed.corruptions_fixed
        if not quiet and not as_json:
            _print_messages(bench, fixed, "Repairing ")
            bench.print(
                "The following inconsistencies were found and repaired:\n\n"
                f"    {fixed.leaks_fixed} leaked clusters\n    {fixed.corruptions_fixed} corruptions\n\n"
                "Double checking the fixed image now..."
            )
    if not quiet:
        if as_json:
            bench.print(dumps(_check_numbers(path, result), indent=4))
        else:
            _print_messages(bench, result, "")
            bench.print(_check_text(result))
    return 2 if result.corruptions else 3 if result.leaks else 0


def _print_messages(bench: Bench, result: qcow2_check.CheckResult, prefix: str) -> None:
    for message in result.messages:
        bench.stderr.append(f"{prefix}{message}\n")


def _check_numbers(path: str, result: qcow2_check.CheckResult) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "image-end-offset": result.image_end_offset,
        "total-clusters": result.total_clusters,
        "check-errors": 0,
        "filename": path,
        "format": "qcow2",
    }
    optional = {
        "allocated-clusters": result.allocated_clusters,
        "fragmented-clusters": result.fragmented_clusters,
        "compressed-clusters": result.compressed_clusters,
        "leaks": result.leaks,
        "corruptions": result.corruptions,
        "leaks-fixed": result.leaks_fixed,
        "corruptions-fixed": result.corruptions_fixed,
    }
    numbers.update({name: number for name, number in optional.items() if number})
    return numbers


def _check_text(result: qcow2_check.CheckResult) -> str:
    lines = []
    if not result.corruptions and not result.leaks:
        lines.append("No errors were found on the image.")
    if result.corruptions:
        lines.append(
            f"\n{result.corruptions} errors were found on the image.\n"
            "Data may be corrupted, or further writes to the image may corrupt it."
        )
    if result.leaks:
        lines.append(
            f"\n{result.leaks} leaked clusters were found on the image.\n"
            "This means waste of disk space, but no harm to data."
        )
    allocated, total = result.allocated_clusters, result.total_clusters
    if allocated and total:
        lines.append(
            f"{allocated}/{total} = {allocated * 100 / total:.2f}% allocated, "
            f"{result.fragmented_clusters * 100 / allocated:.2f}% fragmented, "
            f"{result.compressed_clusters * 100 / allocated:.2f}% compressed clusters"
        )
    if result.image_end_offset:
        lines.append(f"Image end offset: {result.image_end_offset}")
    return "\n".join(lines)


# map


class _Run:
    """MapEntry; `offset` and `file` are None where the data has no place of its own."""

    def __init__(
        self, start: int, length: int, flags: int, depth: int, offset: int | None, file: str | None
    ) -> None:
        self.start, self.length, self.depth = start, length, depth
        self.data, self.zero = bool(flags & STATUS_DATA), bool(flags & STATUS_ZERO)
        self.present = bool(flags & STATUS_ALLOCATED)
        self.offset, self.file = offset, file

    def takes(self, other: _Run) -> bool:
        """Whether `other`, which follows, is more of the same."""
        mine = self.zero, self.data, self.depth, self.present, self.file, self.offset is None
        if mine != (other.zero, other.data, other.depth, other.present, other.file, other.offset is None):
            return False
        return self.offset is None or self.offset + self.length == other.offset


async def map_extents(bench: Bench, argv: list[str]) -> int:
    arguments = parse(argv, "f:s:l:hU", "output: start-offset: max-length: object:")
    path, as_json = _one_file(arguments), _wants_json(arguments)
    start = size_of(arguments.get("s") or arguments.get("start-offset") or "0")
    longest = size_of(arguments.get("l") or arguments.get("max-length") or "8E")
    if start is None or (longest is None and (arguments.has("l") or arguments.has("max-length"))):
        raise ToolError("Invalid offset or length specified.")
    backend = await bench.open(path, arguments.get("f"), force_share=arguments.has("U"))
    node = bench.node_of(backend)
    end = min(node.size_bytes, start + (longest if longest is not None else node.size_bytes))
    runs: list[_Run] = []
    while start < end:
        run = await _run_at(node, start, end - start)
        if runs and not as_json and (not run.data or run.zero):
            # The table shows data only, so other kinds need not be told apart.
            run.data, run.zero = False, True
        if runs and runs[-1].takes(run):
            runs[-1].length += run.length
        else:
            runs.append(run)
        start += run.length
    if as_json:
        bench.stdout.append("[" + ",\n".join(_run_json(run) for run in runs) + "]\n")
    else:
        _print_table(bench, runs)
    await bench.close(backend)
    return 0


async def _run_at(node: Node, start: int, length: int) -> _Run:
    """get_block_status: the layer that has the range, and where in which file it lies."""
    layer: Node | None = node
    depth = flags = 0
    offset: int | None = None
    file = None
    while layer is not None:
        while layer.filtered is not None:
            layer = layer.filtered
        flags, length = await status_of(layer, start, length, True)
        offset, file = await _place(layer, start, length)
        if flags & (STATUS_ZERO | STATUS_DATA):
            break
        layer = layer.backing
        depth += 1
    if layer is None:
        depth -= 1
        flags, offset, file = 0, None, None
    return _Run(start, length, flags, depth, offset, file)


async def _place(node: Node, start: int, length: int) -> tuple[int | None, str | None]:
    """(offset, file name) of the bytes at `start` in the file that holds them."""
    _, flags, child, host = await node.driver.block_status(start, length, True)
    if not flags & STATUS_OFFSET_VALID:
        return None, None
    if flags & STATUS_RAW and child is not None:
        return (
            await _place(child.node, host, length)
            if not child.node.driver.is_protocol
            else (host, child.node.filename)
        )
    return host, child.node.filename if child is not None else node.filename


def _run_json(run: _Run) -> str:
    def word(value: bool) -> str:
        return "true" if value else "false"

    text = (
        f'{{ "start": {run.start}, "length": {run.length}, "depth": {run.depth}, '
        f'"present": {word(run.present)}, "zero": {word(run.zero)}, "data": {word(run.data)}'
    )
    return text + (f', "offset": {run.offset}' if run.offset is not None else "") + "}"


def _print_table(bench: Bench, runs: list[_Run]) -> None:
    def number(value: int) -> str:
        return f"{value:#x}" if value else "0"

    bench.print(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File")
    for run in runs:
        if run.data and run.offset is None:
            raise ToolError("File contains external, encrypted or compressed clusters.")
        if run.data and not run.zero:
            bench.print(
                f"{number(run.start):<16}{number(run.length):<16}{number(run.offset or 0):<16}"
                f"{run.file or ''}"
            )
