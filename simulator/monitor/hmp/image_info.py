"""What "info block -v" prints of an image: an ImageInfo in words (block/qapi.c:bdrv_image_info_dump, 7.2)."""

from __future__ import annotations

from simulator.monitor.hmp.sizes import size_text
from simulator.monitor.hmp.snapshot_table import columns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

_LIMITS = (
    "write-zeroes-alignment",
    "request-alignment",
    "min-mem-alignment",
    "discard-alignment",
    "opt-mem-alignment",
    "max-iov",
)


def describe(machine: Machine, image: dict[str, Any]) -> str:
    """All that is known of one image, a line each."""
    size = image["virtual-size"]
    disk = size_text(image["actual-size"]) if "actual-size" in image else "unavailable"
    lines = [
        f"image: {image['filename']}",
        f"file format: {image['format']}",
        f"virtual size: {size_text(size)} ({size} bytes)",
        f"disk size: {disk}",
    ]
    if "cluster-size" in image:
        lines.append(f"cluster_size: {image['cluster-size']}")
    if image.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "backing-filename" in image:
        lines += _backing(image)
    if "limits" in image:
        lines.append("Block limits:")
        lines += _limits(image["limits"])
    if "snapshots" in image:
        columns = columns_of(machine)
        rows = (columns.row(info, info["id"]) for info in image["snapshots"])
        lines += ["Snapshot list:", *(line.rstrip("\n") for line in (columns.head(), *rows))]
    if image.get("format-specific", {}).get("data"):
        lines += ["Format specific information:", *specific_lines(image)]
    return "".join(f"{line}\n" for line in lines)


def specific_lines(image: dict[str, Any]) -> list[str]:
    """What only images of its format have (bdrv_image_info_specific_dump)."""
    return _members(image["format-specific"]["data"], 1)


def _limits(limits: dict[str, int]) -> list[str]:
    """In this order, which is BlockLimitsInfo's; observed with QEMU 11.1.3."""
    return [f"    {name.replace('-', ' ')}: {limits[name]}" for name in _LIMITS if name in limits]


def _backing(image: dict[str, Any]) -> list[str]:
    line = f"backing file: {image['backing-filename']}"
    full = image.get("full-backing-filename")
    if full is None:
        line += " (cannot determine actual path)"
    elif full != image["backing-filename"]:
        line += f" (actual path: {full})"
    form = image.get("backing-filename-format")
    return [line, f"backing file format: {form}"] if form else [line]


def _members(value: dict[str, Any] | list[Any], depth: int) -> list[str]:
    """An object's members in the order of their names' hashes in QEMU; here in their own."""
    lines: list[str] = []
    named = enumerate(value) if isinstance(value, list) else value.items()
    for key, member in named:
        name = f"[{key}]" if isinstance(value, list) else str(key).replace("-", " ")
        head = "    " * depth + f"{name}:"
        if isinstance(member, dict | list):
            lines += [head, *_members(member, depth + 1)]
        else:
            shown = str(member).lower() if isinstance(member, bool) else member
            lines.append(f"{head} {shown}")
    return lines
