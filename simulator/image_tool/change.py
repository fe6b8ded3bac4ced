"""qemu-img resize and rebase -u: changes to an image's own description (qemu-img.c, 7.2)."""

from __future__ import annotations

from os import strerror

from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.errors import QmpError
from simulator.image_tool.bench import ToolError
from simulator.image_tool.options import UsageError, parse, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.image_tool.bench import Bench

_BAD_SIZE = (
    "Parameter 'size' expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)


async def resize(bench: Bench, argv: list[str]) -> int:
    # The size comes last and may begin with a minus, which is no option then.
    if not argv:
        raise UsageError("Not enough arguments")
    arguments = parse(argv[:-1], "f:hq", "shrink preallocation: object:")
    if len(arguments.rest) != 1:
        raise UsageError("Expecting image file name and size")
    path, text = arguments.rest[0], argv[-1]
    sign = text[0] if text[:1] in ("+", "-") else ""
    amount = size_of(text[len(sign) :])
    if amount is None:
        raise ToolError(_BAD_SIZE)
    backend = await bench.open(path, arguments.get("f"), writable=True)
    node = bench.node_of(backend)
    current = node.size_bytes
    size = {"+": current + amount, "-": current - amount, "": amount}[sign]
    if size <= 0:
        raise ToolError("New image size must be positive")
    preallocation = arguments.get("preallocation") or "off"
    if size <= current and preallocation != "off":
        raise ToolError("Preallocation can only be used for growing images")
    if size < current and not arguments.has("shrink"):
        bench.error("Use the --shrink option to perform a shrink operation.")
        raise ToolError(
            "warning: Shrinking an image will delete all data beyond the shrunken image's end. "
            "Before performing such an operation, make sure there is no important data there."
        )
    try:
        await node.truncate(size, True, preallocation)
    except QmpError as error:
        raise ToolError(error.desc) from None
    await bench.close(backend)
    if not arguments.has("q"):
        bench.print("Image resized.")
    return 0


async def rebase(bench: Bench, argv: list[str]) -> int:
    arguments = parse(argv, "hf:F:b:upt:T:qc", "object:")
    if len(arguments.rest) != 1:
        raise UsageError("Expecting one image file name")
    path = arguments.rest[0]
    if not arguments.has("u") and not arguments.has("b"):
        raise UsageError("Must specify backing file (-b) or use unsafe mode (-u)")
    if not arguments.has("u"):
        raise ToolError("rebase without -u, which copies data, is not simulated")
    backend = await bench.open(path, arguments.get("f"), writable=True, backing=False)
    driver = bench.node_of(backend).driver
    target = arguments.get("b") or ""
    try:
        if target and not arguments.get("F"):
            raise QmpError("backing format must be specified")
        if not isinstance(driver, Qcow2):
            raise QmpError("Operation not supported")
        await driver.change_backing_file(target, arguments.get("F") or "")
    except (QmpError, OSError) as error:
        reason = error.desc if isinstance(error, QmpError) else strerror(error.errno or 0)
        raise ToolError(f"Could not change the backing file to '{target}': {reason}") from None
    await bench.close(backend)
    return 0
