"""qemu-img create (img_create; bdrv_img_create in block.c, 7.2)."""

from __future__ import annotations

from posixpath import dirname, isabs, join

from simulator.block.created import formatting
from simulator.block.drivers import file as file_driver
from simulator.block.drivers import qcow2_create
from simulator.block.errors import QmpError
from simulator.image_tool.bench import ToolError, described
from simulator.image_tool.options import UsageError, image_options, parse, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.image_tool.bench import Bench

QCOW2_OPTIONS = (
    "size", "compat", "backing_file", "backing_fmt", "cluster_size", "preallocation", "lazy_refcounts",
    "refcount_bits", "extended_l2", "compression_type", "data_file", "data_file_raw", "encryption", "nocow",
)  # fmt: skip
RAW_OPTIONS = ("size", "preallocation", "nocow", "extent_size_hint")


async def create(bench: Bench, argv: list[str]) -> int:
    arguments = parse(argv, "F:b:f:ho:qu", "object:")
    if not arguments.rest:
        raise UsageError("Expecting image file name")
    path, image_format = arguments.rest[0], arguments.get("f") or "raw"
    size = None
    if len(arguments.rest) > 1:
        size = size_of(arguments.rest[1])
        if size is None:
            bench.error("Invalid image size specified. You may use k, M, G, T, P or E suffixes for")
            raise ToolError("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.")
    if len(arguments.rest) > 2:
        raise UsageError(f"Unexpected argument: {arguments.rest[2]}")
    if image_format not in ("raw", "qcow2"):
        raise ToolError(f"{path}: Unknown file format '{image_format}'")
    known = QCOW2_OPTIONS if image_format == "qcow2" else RAW_OPTIONS
    options = image_options(arguments.lists, known, path)
    for letter, name in (("b", "backing_file"), ("F", "backing_fmt")):
        if arguments.has(letter):
            if name not in known:
                raise ToolError(f"{path}: Backing file not supported for file format '{image_format}'")
            options[name] = arguments.flags[letter]
    await _settle_size(bench, path, options, size, arguments.has("u"))
    if not arguments.has("q"):
        numbers = {name: str(size_of(options[name])) for name in ("cluster_size",) if name in options}
        bench.print(formatting(path, image_format, {**options, **numbers}))
    try:
        await write_image(bench, path, image_format, options)
    except QmpError as error:
        raise ToolError(f"{path}: {described(error)}") from None
    return 0


async def _settle_size(
    bench: Bench, path: str, options: dict[str, str], size: int | None, unsafe: bool
) -> None:
    """Look at the backing file, unless told not to, and let the size be its own if none is given."""
    backing, backing_format = options.get("backing_file"), options.get("backing_fmt")
    if backing == path:
        raise ToolError(
            f"{path}: Error: Trying to create an image with the same filename as the backing file"
        )
    if backing and not unsafe:
        full = backing if isabs(backing) else join(dirname(path), backing)
        try:
            backend = await bench.open(full, backing_format, force_share=True, io=False)
        except ToolError as failure:
            # The inner message only: the tool opens the backing file for the image, not for its user.
            message = str(failure).removeprefix(f"Could not open '{full}': ")
            raise ToolError(f"{path}: {message}\nCould not open backing image.") from None
        node = bench.node_of(backend)
        if size is None and "size" not in options:
            size = node.size_bytes
        if backing_format is None:
            found = node.driver.format_name
            await bench.close(backend)
            raise ToolError(
                f"{path}: Backing file specified without backing format\nDetected format of {found}.",
                newline=False,
            )
        await bench.close(backend)
    elif backing and not backing_format:
        raise ToolError(f"{path}: Backing file specified without backing format")
    if size is not None:
        options["size"] = str(size)
    if "size" not in options:
        raise ToolError(f"{path}: Image creation needs a size parameter")
    number = size_of(options["size"])
    if number is None:
        raise ToolError(f"{path}: Parameter 'size' expects a non-negative number below 2^64")
    options["size"] = str(number)


async def write_image(bench: Bench, path: str, image_format: str, options: dict[str, str]) -> None:
    """Make the file and what is in it. Raises QmpError."""
    size = int(options["size"])
    size += -size % 512
    graph = bench.graph
    if image_format == "raw":
        preallocation = options.get("preallocation", "off")
        await file_driver.create(graph, {"filename": path, "size": size, "preallocation": preallocation})
        return
    await file_driver.create(graph, {"filename": path, "size": 0})
    node = await graph.open({"driver": "file", "filename": path})
    node.references += 1
    try:
        await qcow2_create.create(graph, node, _for_blockdev_create(options, size))
    except QmpError:
        graph.host.unlink(path)
        raise
    finally:
        node.references -= 1
        await graph.release(node)


def _for_blockdev_create(options: dict[str, str], size: int) -> dict[str, Any]:
    """BlockdevCreateOptionsQcow2 of -o options. Raises QmpError."""
    told: dict[str, Any] = {"size": size}
    compat = options.get("compat", "1.1")
    versions = {"0.10": "v2", "v2": "v2", "1.1": "v3", "v3": "v3"}
    if compat not in versions:
        raise QmpError(f"Invalid parameter '{compat}'")
    told["version"] = versions[compat]
    for name in ("cluster_size", "refcount_bits"):
        if name in options:
            number = size_of(options[name])
            if number is None:
                raise QmpError(f"Parameter '{name}' expects a number")
            told[name.replace("_", "-")] = number
    for name in ("lazy_refcounts", "extended_l2"):
        if name in options:
            if options[name] not in ("on", "off"):
                raise QmpError(f"Parameter '{name}' expects 'on' or 'off'")
            told[name.replace("_", "-")] = options[name] == "on"
    for name in ("backing_file", "backing_fmt", "preallocation", "compression_type", "data_file"):
        if options.get(name):
            told[name.replace("_", "-")] = options[name]
    return told
