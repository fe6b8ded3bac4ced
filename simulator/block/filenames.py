"""What a node is called in replies: a file name, or if that does not say enough, its options as json:{...}.

Source: bdrv_refresh_filename, append_strong_runtime_options and bdrv_backing_overridden in block.c:7651-7870,
7.2.
"""

from __future__ import annotations

from posixpath import dirname, isabs, join

from simulator.wire.qdict import ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node

_ALWAYS_STRONG = ("driver", "filename")


def filename(node: Node) -> str:
    """BlockDeviceInfo.file of a node."""
    if node.implicit and node.filtered is not None:
        return filename(node.filtered)
    return node.driver.filename or "json:" + _json(full_options(node))


def needs_options(node: Node) -> bool:
    """Whether the name of the file below would lead to another node than this one."""
    return bool(node.driver.strong_values()) or backing_overridden(node)


def backing_overridden(node: Node) -> bool:
    """Whether the node's backing file is another one than its image's header names."""
    backing = node.backing
    return node.auto_backing_file != (backing.filename if backing is not None else "")


def header_backing(node: Node) -> str:
    """The backing file that the image's header names, or ""."""
    return getattr(node.driver, "backing_file", None) or ""


def full_backing(node: Node) -> str:
    """The same, from the image's own directory if it is relative (bdrv_get_full_backing_filename)."""
    named = header_backing(node)
    has_protocol = ":" in named.partition("/")[0]
    if isabs(named) or has_protocol or not named:
        return named
    return join(dirname(node.children["file"].node.driver.filename), named)


def full_options(node: Node) -> dict[str, Any]:
    """Options that would open the same node again (BlockDriverState.full_open_options); a filter that QEMU
    put in by itself goes by those of what it stands on (bdrv_refresh_filename, block.c:7676, 7.2)."""
    while node.implicit and node.filtered is not None:
        node = node.filtered
    driver = node.driver
    options = {name: node.options[name] for name in _ALWAYS_STRONG if name in node.options}
    options |= driver.strong_values()
    texts: dict[str, str] = getattr(node.explicit_options, "texts", {})
    options.update({name: text for name, text in texts.items() if name in options})
    options.setdefault("driver", driver.format_name)
    overridden = backing_overridden(node)
    if driver.children_option:
        options[driver.children_option] = [full_options(edge.node) for edge in driver.listed_children()]
        return options
    for name, edge in node.children.items():
        if name != "backing" or overridden or driver.is_filter:
            options[name] = full_options(edge.node)
    if overridden and node.backing is None:
        options["backing"] = None
    return options


def _json(value: Any) -> str:
    from json import dumps

    return dumps(ordered(value))
