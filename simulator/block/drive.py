"""Drives: -drive and HMP drive_add, from option text to a named backend on a node.

Source: blockdev.c drive_new and blockdev_init, 7.2.
"""

from __future__ import annotations

from simulator.block import backend_limits, drive_statistics, opening, permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import ProcessEnd, QmpError
from simulator.block.option_texts import PROTOCOLS, Written, as_probed, converted, flat
from simulator.block.protocol_names import parsed, protocol_options
from simulator.block.throttle_groups import LIMITS, ThrottleGroup
from simulator.qapi import qemu_opts
from simulator.qapi.truth import TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.qapi.qemu_opts import QemuOpts
    from simulator.qapi.schema import Schema

INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")  # BlockInterfaceType
_UNITS_PER_BUS = {"ide": 2, "scsi": 7}  # if_max_devs
_OLD_NAMES = {
    "readonly": "read-only",
    "group": "throttling.group",
    **{
        name: f"throttling.{limit}"
        for limit, name in backend_limits.NAMES.items()
        if not limit.endswith("-max-length")
    },
}
# The drive's own options, which its node never sees, and the kind of each value (qemu_legacy_drive_opts,
# qemu_common_drive_opts).
_LEGACY = {
    "bus": "num",
    "unit": "num",
    "index": "num",
    "media": "str",
    "if": "str",
    "file": "str",
    "read-only": "bool",
    "rerror": "str",
    "werror": "str",
    "copy-on-read": "bool",
}
_DRIVE_ONLY = {
    "id": "str",
    "snapshot": "bool",
    "aio": "str",
    "cache.writeback": "bool",
    "format": "str",
    "detect-zeroes": "str",
    "stats-account-invalid": "bool",
    "stats-account-failed": "bool",
}
_OWN = frozenset((*_LEGACY, *_DRIVE_ONLY))
# mode: direct, no-flush, writeback
_CACHE_MODES = {
    "none": ("on", "off", "on"),
    "off": ("on", "off", "on"),
    "writeback": ("off", "off", "on"),
    "unsafe": ("off", "on", "on"),
    "writethrough": ("off", "off", "off"),
    "directsync": ("on", "off", "off"),
}
_ON_ERROR = ("ignore", "enospc", "stop", "report")


class Drives:
    """The drives of a machine: where each stands, and which ids are taken by options that were given one."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._given_ids: list[str] = []
        self.places: dict[str, tuple[str, int, int]] = {}  # id: (interface, bus, unit)

    def parse(self, text: str) -> QemuOpts:
        """The options of one drive; an id that they give is taken from now on, until `forget`. Raises
        OptionError."""
        opts = qemu_opts.parse(text)
        if opts.id is not None:
            if opts.id in self._given_ids:
                raise qemu_opts.OptionError(f"Duplicate ID '{opts.id}' for drive")
            self._given_ids.append(opts.id)
        return opts

    def forget(self, identifier: str | None) -> None:
        """The drive has gone, or was never made."""
        if identifier in self._given_ids:
            self._given_ids.remove(identifier)
        self.free_place(identifier)

    def free_place(self, identifier: str | None) -> None:
        """Of a drive that is not listed any more (drive_get sees named backends only)."""
        if identifier is not None:
            self.places.pop(identifier, None)

    async def add(
        self,
        schema: Schema,
        opts: QemuOpts,
        default_interface: str = "ide",
        report: Callable[[str], None] | None = None,
    ) -> tuple[str, str]:
        """Make the drive: (interface, its id). `report`: whom to tell of what is only odd, if not standard
        error. Raises QmpError; the id is free again then."""
        try:
            return await self._add(schema, opts, default_interface, report or self._graph.report)
        except QmpError:
            self.forget(opts.id)
            raise
        except ProcessEnd as end:
            await self._graph.end_process(end.status, end.words)
            raise

    async def _add(
        self, schema: Schema, opts: QemuOpts, default_interface: str, report: Callable[[str], None]
    ) -> tuple[str, str]:
        graph = self._graph
        given = _renamed(opts)
        _check(given, _LEGACY)
        if given.get("media", "disk") not in ("disk", "cdrom"):
            raise QmpError(f"'{given['media']}' invalid media")
        interface = given.get("if", default_interface)
        if interface not in INTERFACES:
            raise QmpError(f"unsupported bus type '{interface}'")
        bus, unit = self._place(interface, given)
        identifier = given.get("id") or _made_up_id(interface, bus, unit, given.get("media") == "cdrom")
        _check(given, _DRIVE_ONLY)
        intervals = drive_statistics.take_intervals(given)
        limits, group = _take_limits(graph, given)
        _check_values(given)
        copies = given.get("copy-on-read", "off") in TRUE
        if copies and _is_read_only(given):
            report("warning: disabling copy-on-read on read-only drive")
            copies = False
        options = node_options(graph, schema, given)
        backend = await self._backend(identifier, options, _is_read_only(given))
        if options is not None:
            try:
                drive_statistics.set_up(backend.accounting, given, intervals)
            except QmpError:
                await backend.remove()
                raise
            backend.write_cache = given.get("cache.writeback", "on") in TRUE
            assert backend.node is not None
            # Nobody looks whether it may be "unmap" (blockdev_init).
            backend.node.detect_zeroes = given.get("detect-zeroes", "off")
            # For as long as there is the node (bdrv_enable_copy_on_read).
            backend.node.reads_copy += copies
        if problem := self._name_conflict(identifier):
            await backend.remove()
            raise QmpError(problem)
        graph.backends[identifier] = backend
        if limits is not None and options is not None:
            backend_limits.enable(backend, limits, group or identifier)
        self.places[identifier] = interface, bus, unit
        return interface, identifier

    def _name_conflict(self, identifier: str) -> str:
        if identifier in self._graph.backends:
            return f"Device with id '{identifier}' already exists"
        if identifier in self._graph.nodes:
            return f"Device name '{identifier}' conflicts with an existing node name"
        return ""

    async def _backend(
        self, identifier: str, options: dict[str, Any] | None, is_read_only: bool
    ) -> BlockBackend:
        graph = self._graph
        backend = BlockBackend(graph, identifier, 0, permissions.ALL)
        backend.opens_read_only = is_read_only
        if options is not None:
            node = await graph.open(options)
            # Nothing more: a device that writes says so itself (blk_new_open, block/block-backend.c, 7.2).
            backend.perm = permissions.CONSISTENT_READ
            try:
                await graph.changing()
                backend.insert(node)
            except QmpError:
                await graph.release(node)
                raise
        return backend

    def _place(self, interface: str, given: dict[str, str]) -> tuple[int, int]:
        """(bus, unit), as given or the first that is free. Raises QmpError."""
        most = _UNITS_PER_BUS.get(interface, 0)
        bus, unit, index = (int(given.get(name, default), 0) for name, default in _PLACE_DEFAULTS)
        if index != -1:
            if bus != 0 or unit != -1:
                raise QmpError("index cannot be used with bus and unit")
            bus, unit = divmod(index, most) if most else (0, index)
        taken = list(self.places.values())
        if unit == -1:
            unit = 0
            while (interface, bus, unit) in taken:
                unit += 1
                if most and unit >= most:
                    bus, unit = bus + 1, unit - most
        if most and unit >= most:
            raise QmpError(f"unit {unit} too big (max is {most - 1})")
        if (interface, bus, unit) in taken:
            raise QmpError(f"drive with bus={bus}, unit={unit} (index={index}) exists")
        return bus, unit


_PLACE_DEFAULTS = ("bus", "0"), ("unit", "-1"), ("index", "-1")


def _renamed(opts: QemuOpts) -> dict[str, str]:
    said = opts.to_dict()
    for old, name in _OLD_NAMES.items():
        if old in said and name in said:
            raise QmpError(f"'{name}' and its alias '{old}' can't be used at the same time")
    given = {_OLD_NAMES.get(name, name): value for name, value in said.items()}
    mode = given.pop("cache", None)
    if mode is not None:
        if mode not in _CACHE_MODES:
            raise QmpError("invalid cache option")
        for name, value in zip(("direct", "no-flush", "writeback"), _CACHE_MODES[mode], strict=True):
            given.setdefault(f"cache.{name}", value)
    return given


def _check(given: dict[str, str], kinds: dict[str, str]) -> None:
    for name, value in given.items():
        if name in kinds:
            try:
                qemu_opts.check(name, value, kinds)
            except qemu_opts.OptionError as error:
                raise QmpError(error.desc) from None


def _check_values(given: dict[str, str]) -> None:
    """What blockdev_init looks at itself, in its order."""
    if given.get("discard", "off") not in ("ignore", "off", "unmap", "on"):
        raise QmpError("Invalid discard option")
    if given.get("aio", "threads") not in ("threads", "native", "io_uring"):
        raise QmpError("invalid aio option")
    if given.get("detect-zeroes", "off") not in ("off", "on", "unmap"):
        raise QmpError(f"Parameter 'detect-zeroes' does not accept value '{given['detect-zeroes']}'")
    if "format" in given and "driver" in given:
        raise QmpError("Cannot specify both 'driver' and 'format'")
    for name, what, allowed in (("werror", "write", _ON_ERROR), ("rerror", "read", _ON_ERROR)):
        value = given.get(name, "report")
        if value not in allowed or (name == "rerror" and value == "enospc"):
            raise QmpError(f"'{value}' invalid {what} error action")
    if given.get("snapshot", "off") in TRUE:
        raise QmpError("'snapshot' of a drive is not simulated")


def _take_limits(graph: Graph, given: dict[str, str]) -> tuple[ThrottleGroup | None, str]:
    """(the limits of a drive, None for none; the group that it names or ""), which are no longer in `given`
    then (extract_common_blockdev_options). Raises QmpError."""
    group = given.pop("throttling.group", "")
    names = [name for name in given if name.removeprefix("throttling.") in LIMITS]
    _check(given, dict.fromkeys(names, "num"))
    limits = {name.removeprefix("throttling."): int(given.pop(name), 0) for name in names}
    wanted = ThrottleGroup(graph.scheduler, "", {"limits": limits})
    return (wanted if wanted.limits_anything else None), group


def _made_up_id(interface: str, bus: int, unit: int, is_cd: bool) -> str:
    """ide0-hd0, ide0-cd1, virtio0, none0 ..."""
    media = ("-cd" if is_cd else "-hd") if interface in ("ide", "scsi") else ""
    return f"{interface}{bus}{media}{unit}" if interface in _UNITS_PER_BUS else f"{interface}{media}{unit}"


def _is_read_only(given: dict[str, str]) -> bool:
    return given.get("media") == "cdrom" or given.get("read-only", "off") in TRUE


def node_options(graph: Graph, schema: Schema, given: dict[str, str]) -> dict[str, Any] | None:
    """What blockdev-add would be told for a drive's node; None for a drive without a medium. Raises
    QmpError."""
    if not given.get("file") and "format" not in given and _OWN.issuperset(given):
        return None
    options = tree_options(graph, schema, given)
    if _is_read_only(given):
        options["read-only"] = True
    else:
        options.setdefault("auto-read-only", True)
    return options


def tree_options(
    graph: Graph, schema: Schema, given: dict[str, str], own: frozenset[str] = _OWN
) -> dict[str, Any]:
    """Dotted options as blockdev-add takes them, without those in `own`, which only a drive knows: `file`
    among them is a file's name, and else a node's. Raises QmpError."""
    tree: dict[str, Any] = {}
    filename = given.get("file", "") if own else ""
    if filename.startswith("json:"):
        given = {key: value for key, value in given.items() if key != "file"}
        for key, value in _json_options(filename, graph.rules.json_pushed).items():
            _store(tree, key, value)
    for key, value in given.items():
        if key not in own:
            _store(tree, key, value)
    if not own:
        return _probed_if_unsaid(graph, schema, tree)
    if "format" in given:
        tree["driver"] = given["format"]
    _add_file(tree, given)
    if tree.get("discard") in ("on", "off"):
        tree["discard"] = "unmap" if tree["discard"] == "on" else "ignore"
    return _probed_if_unsaid(graph, schema, tree)


def _probed_if_unsaid(graph: Graph, schema: Schema, tree: dict[str, Any]) -> dict[str, Any]:
    """Without a driver the image is looked at when its file is open (find_image_format, block.c)."""
    if "driver" in tree:
        return converted(graph, schema, tree)
    if "file" not in tree:
        raise QmpError("Must specify either driver or file")

    def read_as(driver: str) -> Written:
        written = converted(graph, schema, {"driver": driver, **tree})
        del written.texts["driver"]
        return written

    return as_probed(graph, schema, tree, read_as)


def _json_options(filename: str, pushes: bool) -> dict[str, str]:
    """What a file name of json:{...} says, flat and as text, as all options of a drive are."""
    return dict(flat(opening.json_options(filename, pushes)))


def _store(tree: dict[str, Any], key: str, value: str) -> None:
    *path, last = key.split(".")
    for step in path:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise QmpError(f"Cannot mix dotted and plain keys at '{step}'")
    tree[last] = value


def _add_file(tree: dict[str, Any], given: dict[str, str]) -> None:
    filename = given.get("file", "")
    if tree.get("driver") in PROTOCOLS:
        for name, value in parsed(tree["driver"], filename).items() if filename else ():
            tree.setdefault(name, value)
        return
    protocol = tree.get("file")
    if filename:
        protocol = tree.setdefault("file", {})
        own_driver = protocol.get("driver") if isinstance(protocol, dict) else None
        named = parsed(own_driver, filename) if own_driver else protocol_options(filename)
        if named.get("driver", own_driver) != "file":
            protocol.update({**named, **protocol})
            return
        protocol.setdefault("filename", named["filename"])
    if not isinstance(protocol, dict):
        return
    path = protocol.get("filename")
    if path is not None:
        path = protocol["filename"] = opening.path_of(path)
        protocol.setdefault("driver", "file")
    if "aio" in given:
        protocol.setdefault("aio", given["aio"])
