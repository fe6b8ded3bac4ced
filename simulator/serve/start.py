"""From a command line to a machine that is ready to be served: what each option does, in the order QEMU does it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from simulator.block import drive
from simulator.block.errors import QmpError
from simulator.monitor.dispatch import handlers
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError
from simulator.serve import chardevs
from simulator.serve.options import Option, StartError
from simulator.wire.json_stream import ParseError, parse_text

if TYPE_CHECKING:
    from simulator.machine import Machine
    from simulator.serve.chardevs import Chardev


class Monitor:
    """A monitor and where it sits. mode: "control" (QMP) or "readline" (HMP)."""

    def __init__(self, chardev: Chardev, mode: str, pretty: bool) -> None:
        self.chardev, self.mode, self.pretty = chardev, mode, pretty


class Start:
    """The state of starting one machine. `daemonize` and `pid_file` are for the process around it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.chardevs: dict[str, Chardev] = {}
        self.monitors: list[Monitor] = []
        self.daemonize = False
        self.pid_file = ""

    async def system(self, options: list[Option]) -> None:
        """qemu-system: options take effect by kind, not in the order they stand in. Raises StartError."""
        self.machine.run_state = "prelaunch" if any(name == "S" for name, _, _ in options) else "running"
        for name, value, _ in options:
            self.daemonize |= name == "daemonize"
            if name == "pidfile":
                self.pid_file = value
            elif name == "name":
                given = qemu_opts.parse(value, "guest").to_dict()
                self.machine.name = given.get("guest", "")
        for kinds in _SYSTEM_ORDER:
            for name, value, shown in options:
                if name in kinds:
                    await self._apply(kinds[name], value, shown)

    async def daemon(self, options: list[Option]) -> None:
        """qemu-storage-daemon: options take effect one after the other. Raises StartError."""
        for name, value, _ in options:
            self.daemonize |= name == "daemonize"
            if name == "pidfile":
                self.pid_file = value
        for name, value, shown in options:
            if name in _DAEMON:
                await self._apply(_DAEMON[name], value, shown)

    async def _apply(self, effect: Effect, value: str, shown: str) -> None:
        try:
            await effect(self, value)
        except qemu_opts.OptionError as error:
            raise StartError(f"{shown}: {error.desc}{error.hint}") from None
        except (QmpError, ArgumentError) as error:
            raise StartError(f"{shown}: {error.desc}") from None
        except ParseError as error:
            raise StartError(f"{shown}: {error.desc}") from None

    # -- what options hold
    def _typed(self, command: str, text: str, implied_key: str | None) -> dict[str, Any]:
        """Option text, JSON or key=value, as the arguments of a command."""
        schema = self.machine.schema
        entry = schema.by_name[command]["arg-type"]
        if text.startswith("{"):
            return schema.check_type(entry, parse_text(text.encode()))
        return schema.convert_keyval(entry, keyval.parse(text, implied_key))

    async def _command(self, name: str, arguments: dict[str, Any]) -> None:
        await handlers()[name](self.machine, arguments)


Effect = Callable[[Start, str], Coroutine[Any, Any, None]]


async def _blockdev(start: Start, text: str) -> None:
    await start._command("blockdev-add", start._typed("blockdev-add", text, "driver"))


async def _drive(start: Start, text: str) -> None:
    machine = start.machine
    interface, identifier = await drive.add_drive(machine.graph, machine.schema, text)
    if interface == "ide":
        machine.devices.add("ide-hd", "", identifier)
    elif interface == "virtio":
        machine.devices.add("virtio-blk-pci", "", identifier)


async def _disk_image(start: Start, text: str) -> None:
    await _drive(start, f"file={text.replace(',', ',,')},media=disk")


async def _object(start: Start, text: str) -> None:
    await start._command("object-add", start._typed("object-add", text, "qom-type"))


async def _device(start: Start, text: str) -> None:
    if text.startswith("{"):
        given: dict[str, Any] = parse_text(text.encode())
    else:
        given = dict(qemu_opts.parse(text, "driver").to_dict())
    machine = start.machine
    driver = str(given.get("driver", ""))
    if machine.devices.is_disk(driver):
        if "drive" not in given:
            raise QmpError("drive property not set")
        share = given.get("share-rw") in ("on", True)
        machine.devices.add(driver, str(given.get("id", "")), str(given["drive"]), share)
    elif not machine.knows_device(driver):
        raise QmpError(f"'{driver}' is not a valid device model name")


async def _chardev(start: Start, text: str) -> None:
    chardev = chardevs.from_option(text)
    if chardev.identifier in start.chardevs:
        raise QmpError(f"Chardev with id '{chardev.identifier}' already exists")
    start.chardevs[chardev.identifier] = chardev


async def _mon(start: Start, text: str) -> None:
    if text.startswith("{"):
        given: dict[str, Any] = parse_text(text.encode())
    else:
        given = dict(qemu_opts.parse(text, "chardev").to_dict())
    default = "control" if start.machine.storage_daemon else "readline"
    identifier = str(given.get("chardev", ""))
    chardev = start.chardevs.get(identifier)
    if chardev is None:
        raise QmpError(f'chardev "{identifier}" not found')
    mode = str(given.get("mode", default))
    if mode not in ("control", "readline"):
        raise QmpError(f"Parameter 'mode' does not accept value '{mode}'")
    pretty = given.get("pretty") in ("on", True)
    start.monitors.append(Monitor(chardev, mode, pretty))


def _legacy_monitor(mode: str, pretty: bool) -> Effect:
    async def effect(start: Start, text: str) -> None:
        if text == "none":
            return
        identifier = f"compat_monitor{len(start.monitors)}"
        if text.startswith("chardev:"):
            chardev = start.chardevs.get(text[8:])
            if chardev is None:
                raise QmpError(f'chardev "{text[8:]}" not found')
        else:
            chardev = chardevs.from_legacy(text, identifier)
        start.monitors.append(Monitor(chardev, mode, pretty))

    return effect


async def _nbd_server(start: Start, text: str) -> None:
    schema = start.machine.nbd_server_options()
    if text.startswith("{"):
        given = schema.check_type("NbdServerOptions", parse_text(text.encode()))
    else:
        given = schema.convert_keyval("NbdServerOptions", keyval.parse(text))
    await start._command("nbd-server-start", given)


async def _export(start: Start, text: str) -> None:
    await start._command("block-export-add", start._typed("block-export-add", text, "type"))


_SYSTEM_ORDER: tuple[dict[str, Effect], ...] = (
    {"object": _object, "chardev": _chardev},
    {
        "mon": _mon,
        "qmp": _legacy_monitor("control", False),
        "qmp-pretty": _legacy_monitor("control", True),
        "monitor": _legacy_monitor("readline", False),
    },
    {"blockdev": _blockdev},
    {"drive": _drive, "hda": _disk_image},
    {"device": _device},
)

_DAEMON: dict[str, Effect] = {
    "blockdev": _blockdev,
    "chardev": _chardev,
    "export": _export,
    "monitor": _mon,
    "nbd-server": _nbd_server,
    "object": _object,
}
