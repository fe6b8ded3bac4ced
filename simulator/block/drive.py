"""Drives: -drive and HMP drive_add, from option text to a named backend on a node (blockdev.c drive_new, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block import opening, permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.graph import well_formed_id
from simulator.qapi import qemu_opts
from simulator.qapi.errors import ArgumentError

if TYPE_CHECKING:
    from simulator.block.graph import Graph
    from simulator.qapi.schema import Schema

# Options that are the drive's own and not its node's.
_OWN = ("if", "id", "index", "bus", "unit", "media", "serial", "werror", "rerror", "file", "format", "readonly", "aio")
_INTERFACES = ("ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen", "none")
_CACHE_MODES = {
    "none": {"direct": True, "no-flush": False},
    "writeback": {"direct": False, "no-flush": False},
    "writethrough": {"direct": False, "no-flush": False},
    "directsync": {"direct": True, "no-flush": False},
    "unsafe": {"direct": False, "no-flush": True},
}


async def add_drive(graph: Graph, schema: Schema, text: str, default_interface: str = "ide") -> tuple[str, str]:
    """Make the drive that `text` describes: (interface, its id). Raises QmpError."""
    try:
        given = qemu_opts.parse(text).to_dict()
    except qemu_opts.OptionError as error:
        raise QmpError(error.desc) from None
    interface = given.get("if", default_interface)
    if interface not in _INTERFACES:
        raise QmpError(f"unsupported bus type '{interface}'")
    identifier = given.get("id") or _default_id(graph, interface, given)
    if not well_formed_id(identifier):
        raise QmpError("Parameter 'id' expects an identifier")
    if identifier in graph.backends:
        raise QmpError(f"Device with id '{identifier}' already exists")
    if identifier in graph.nodes:
        raise QmpError(f"Device name '{identifier}' conflicts with an existing node name")
    options = node_options(graph, schema, given)
    node = await graph.open(options)
    perm = permissions.CONSISTENT_READ | (0 if node.read_only else permissions.WRITE)
    backend = BlockBackend(graph, identifier, perm, permissions.ALL)
    try:
        backend.insert(node)
    except QmpError:
        await graph.release(node)
        raise
    graph.backends[identifier] = backend
    return interface, identifier


def _default_id(graph: Graph, interface: str, given: dict[str, str]) -> str:
    """ide0-hd0, ide0-cd1, virtio0, none0 ..., as blockdev_init names a drive without an id."""
    index = int(given["index"]) if given.get("index", "").isdigit() else -1
    kind = "cd" if given.get("media") == "cdrom" else "hd"
    number = max(index, 0)
    while True:
        name = f"ide{number // 2}-{kind}{number % 2}" if interface == "ide" else f"{interface}{number}"
        if name not in graph.backends or index >= 0:
            return name
        number += 1


def node_options(graph: Graph, schema: Schema, given: dict[str, str]) -> dict[str, Any]:
    """What blockdev-add would be told for the same node. Raises QmpError."""
    tree: dict[str, Any] = {}
    for key, value in given.items():
        if key in _OWN or key == "cache":
            continue
        place = tree
        *path, last = key.split(".")
        for step in path:
            branch = place.setdefault(step, {})
            if not isinstance(branch, dict):
                raise QmpError(f"Cannot mix dotted and plain keys at '{step}'")
            place = branch
        place[last] = value
    if "format" in given and "driver" not in tree:
        tree["driver"] = given["format"]
    if "file" in given:
        _add_file(graph, tree, given)
    if "driver" not in tree:
        raise QmpError("Must specify either driver or file")
    options = _converted(schema, tree)
    read_only = given.get("readonly", "off") == "on"
    if read_only:
        options["read-only"] = True
    else:
        options.setdefault("auto-read-only", True)
    if "cache" in given:
        if given["cache"] not in _CACHE_MODES:
            raise QmpError("invalid cache option")
        options["cache"] = dict(_CACHE_MODES[given["cache"]])
    return options


def _add_file(graph: Graph, tree: dict[str, Any], given: dict[str, str]) -> None:
    filename = given["file"]
    if "driver" not in tree:
        tree["driver"] = opening.probe(graph, filename)
    protocol = tree.setdefault("file", {})
    protocol.setdefault("driver", "file")
    protocol.setdefault("filename", filename)
    if "aio" in given:
        protocol["aio"] = given["aio"]


def _converted(schema: Schema, tree: dict[str, Any]) -> dict[str, Any]:
    command = schema.command("blockdev-add")
    if command is None:
        raise AssertionError("introspection without blockdev-add")
    try:
        return schema.convert_keyval(command["arg-type"], tree)
    except ArgumentError as error:
        raise QmpError(error.desc) from None
