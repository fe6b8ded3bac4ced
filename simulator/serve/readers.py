"""Options that both programs have, and the system emulator's monitors: from text to what each does."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import monitor_objects, object_values
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError
from simulator.qapi.schema import Schema
from simulator.serve import chardevs
from simulator.serve.options import StartError
from simulator.wire.json_stream import parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.serve.start import Reader, Start

_MODES = ("readline", "control")
_PRETTY_IS_OLD = (
    "'pretty' is deprecated for HMP monitors, it has no effect and will be removed in future versions"
)
_MON_IS_OLD = "'-mon' is deprecated, use '-object' with 'monitor-hmp' or 'monitor-qmp' types instead"


def blockdev(start: Start, text: str, shown: str) -> None:
    arguments = start.typed("blockdev-add", text, "driver")
    start.plan("blockdev", shown, lambda: start.command("blockdev-add", arguments))


def system_object(start: Start, text: str, shown: str) -> None:
    """-object: its key=value form is of the older sort, with errors of its own."""
    if "object-add" in start.machine.schema.unchecked:
        opts = start.options_of("object", shown, qemu_opts.parse(text, "qom-type"))
        _plan_object(start, shown, opts.to_dict(), object_values.from_options)
        return
    if text.startswith("{"):
        arguments = start.typed("object-add", text, "qom-type")
    else:
        opts = start.options_of("object", shown, qemu_opts.parse(text, "qom-type"))
        if opts.get("qom-type") is None:
            raise QmpError("Parameter 'qom-type' is missing")
        arguments = _object_of(start, opts.to_dict())
    if arguments["qom-type"] in monitor_objects.TYPES:
        _plan_monitor_object(start, shown, arguments)
    else:
        # What it came from is forgotten by the time that it is made.
        start.plan("object", "", lambda: start.command("object-add", arguments))


def _object_of(start: Start, given: dict[str, str]) -> dict[str, Any]:
    schema = start.machine.schema
    try:
        return schema.convert_options(schema.by_name["object-add"]["arg-type"], given)
    except ArgumentError as error:
        if error.desc.endswith(("is unexpected", "expected: object")):
            name = error.desc.split("'")[1]
            raise QmpError(f"Invalid parameter '{name}'") from None
        raise


def _plan_monitor_object(start: Start, shown: str, arguments: dict[str, Any]) -> None:
    mode = monitor_objects.TYPES[arguments["qom-type"]]

    async def effect() -> None:
        if "chardev" not in arguments:
            raise QmpError("Parameter 'chardev' is missing")
        start.add_monitor(arguments["chardev"], mode, arguments.get("pretty", False), arguments["id"])

    start.plan("mon", shown, effect)


def _plan_object(start: Start, shown: str, given: dict[str, Any], reader: object_values.Reader) -> None:
    """One of whose properties no schema tells."""

    async def make() -> None:
        await start.command("object-add", object_values.read(start.machine, given, reader))

    start.plan("object", shown, make)


def daemon_object(start: Start, text: str, shown: str) -> None:
    if "object-add" in start.machine.schema.unchecked:
        _plan_object(start, shown, keyval.parse(text, "qom-type"), object_values.from_keyval)
        return
    arguments = start.typed("object-add", text, "qom-type")
    start.plan("object", shown, lambda: start.command("object-add", arguments))


def chardev(start: Start, text: str, shown: str) -> None:
    opts = chardevs.from_option(text)
    # The storage daemon forgets the options once they have taken effect, and so does not find an id twice.
    if start.machine.storage_daemon:
        start.warn_of(shown, opts.warnings)
    else:
        start.options_of("chardev", shown, opts)

    async def effect() -> None:
        if opts.id is None:
            raise QmpError("chardev: no id specified")
        start.chardevs.make(opts.id, opts.to_dict(), start.speaker(shown))

    start.plan("chardev", shown, effect)


def mon(start: Start, text: str, shown: str) -> None:
    if start.machine.version.qmp.monitors_are_objects and _MON_IS_OLD not in start.told:
        start.told.append(_MON_IS_OLD)
        start.machine.warn(f"{start.speaker(shown)}warning: {_MON_IS_OLD}")
    opts = qemu_opts.parse(text, "chardev", {"mode": "str", "chardev": "str", "pretty": "bool"})
    start.options_of("mon", shown, opts)

    async def effect() -> None:
        identifier = opts.get("chardev")
        if identifier is None:
            raise QmpError("Parameter 'chardev' is missing")
        mode = opts.get("mode") or "readline"
        if mode not in _MODES:
            raise QmpError(f"Parameter 'mode' does not accept value '{mode}'")
        pretty = opts.get_bool("pretty", False)
        if pretty and mode == "readline" and start.machine.version.command_line.misuse_warns:
            start.machine.warn(f"{start.speaker(shown)}warning: {_PRETTY_IS_OLD}")
            pretty = False
        start.add_monitor(identifier, mode, pretty, opts.id or "")

    start.plan("mon", shown, effect)


def legacy_monitor(mode: str, pretty: bool) -> Reader:
    """-qmp, -qmp-pretty and -monitor: a monitor and its chardev in one."""

    def reader(start: Start, text: str, shown: str) -> None:
        if text == "none" and mode == "readline":
            return
        label = f"compat_monitor{start.legacy_monitors}"
        start.legacy_monitors += 1
        if text.startswith("chardev:"):
            label = text[8:]
        else:
            _plan_legacy_chardev(start, text, shown, label)

        async def sit() -> None:
            start.add_monitor(label, mode, pretty)

        start.plan("mon", shown, sit)

    return reader


def _plan_legacy_chardev(start: Start, text: str, shown: str, label: str) -> None:
    try:
        given = chardevs.from_legacy(text)
    except chardevs.NotADriver as problem:
        first = f"{shown}: {problem}\n{start.program}: " if str(problem) else ""
        raise StartError(f"{first}{shown}: parse error: {text}") from None

    async def make() -> None:
        start.chardevs.make(label, given, start.speaker(shown))

    start.plan("chardev", shown, make)


def daemon_monitor(start: Start, text: str, shown: str) -> None:
    given = _monitor_options(start, text)

    async def effect() -> None:
        start.add_monitor(given["chardev"], given.get("mode", "control"), given.get("pretty", False))

    start.plan("mon", shown, effect)


def _monitor_options(start: Start, text: str) -> dict[str, Any]:
    """A MonitorOptions (qapi/control.json), which introspection does not show."""
    tree: dict[str, Any]
    if text.startswith("{"):
        tree = parse_text(text.encode(), start.machine.version.qmp.json_pushed)
    else:
        tree = keyval.parse(text, "chardev")
    if set(tree) <= {"chardev", "mode"} and "chardev" in tree and tree.get("mode", "control") in _MODES:
        return tree  # which is nearly always so, and reading the introspection takes time
    whole = start.machine.schema
    mode = {"name": "MonitorMode", "meta-type": "enum", "values": list(_MODES)}
    members = [
        ("id", "str", True),
        ("mode", "MonitorMode", True),
        ("pretty", "bool", True),
        ("chardev", "str", False),
    ]
    schema = Schema([*whole.entries, mode], words=whole.words).with_struct("MonitorOptions", members)
    if text.startswith("{"):
        return schema.check_type("MonitorOptions", tree)
    return schema.convert_keyval("MonitorOptions", tree)


def nbd_server(start: Start, text: str, shown: str) -> None:
    schema = start.machine.nbd_server_options()
    if text.startswith("{"):
        parsed = parse_text(text.encode(), start.machine.version.qmp.json_pushed)
        given = schema.check_type("NbdServerOptions", parsed)
    else:
        given = schema.convert_keyval("NbdServerOptions", keyval.parse(text))
    start.plan("device", shown, lambda: start.command("nbd-server-start", given))


def export(start: Start, text: str, shown: str) -> None:
    arguments = start.typed("block-export-add", text, "type")
    start.plan("device", shown, lambda: start.command("block-export-add", arguments))


DAEMON: dict[str, Reader] = {
    "blockdev": blockdev,
    "chardev": chardev,
    "export": export,
    "monitor": daemon_monitor,
    "nbd-server": nbd_server,
    "object": daemon_object,
}
