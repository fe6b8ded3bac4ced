"""From a command line to a machine that is ready to be served: what each option does, in the order QEMU does it.

Sources: qemu_init and what it calls, softmmu/vl.c; process_options, storage-daemon/qemu-storage-daemon.c, 7.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from simulator.block.errors import QmpError
from simulator.monitor.dispatch import handlers
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError
from simulator.serve import chardevs, settings
from simulator.serve.chardevs import Chardevs
from simulator.serve.options import Option, StartError
from simulator.wire.json_stream import ParseError, parse_text

if TYPE_CHECKING:
    from simulator.machine import Machine
    from simulator.serve.chardevs import Chardev

    Effect = Callable[[], Coroutine[Any, Any, None]]
    Reader = Callable[["Start", str, str], Effect | None]


class Monitor:
    """A monitor and where it sits. mode: "control" (QMP) or "readline" (HMP)."""

    def __init__(self, chardev: Chardev, mode: str, pretty: bool) -> None:
        self.chardev, self.mode, self.pretty = chardev, mode, pretty


class Start:
    """The state of starting one machine. `program` is the name in front of what is told on standard error;
    `write_pid_file` is called when QEMU would create that file."""

    def __init__(
        self, machine: Machine, program: str, daemonized: bool, write_pid_file: Callable[[], None]
    ) -> None:
        self.machine = machine
        self.program = program
        self.chardevs = Chardevs(daemonized)
        self.monitors: list[Monitor] = []
        self.machine_type = "pc"
        self.machine_settings: dict[str, Any] = {}
        self.accelerators: list[tuple[str, str]] = []  # (name, the option as shown)
        self.taken: dict[str, list[str]] = {}  # kind of option: ids
        self._write_pid_file = write_pid_file
        self._legacy_monitors = 0

    # -- the two programs
    async def system(self, options: list[Option]) -> None:
        """qemu-system: every option is read in the order they stand in, then they take effect by kind. Raises
        StartError."""
        self.machine.run_state = "prelaunch" if any(name == "S" for name, _, _ in options) else "running"
        effects: dict[str, list[tuple[str, Effect]]] = {}
        for name, value, shown in options:
            stage, reader = _SYSTEM.get(name, ("", None))
            if reader is not None and (effect := self._told(shown, lambda: reader(self, value, shown))) is not None:
                effects.setdefault(stage, []).append((shown, effect))
        settings.choose_machine(self)
        self._write_pid_file()
        for stage in _STAGES:
            if stage == "machine":
                settings.apply_machine(self)
            for shown, effect in effects.get(stage, ()):
                await self._effect(shown, effect)

    async def daemon(self, options: list[Option]) -> None:
        """qemu-storage-daemon: options take effect one after the other. Raises StartError."""
        for name, value, shown in options:
            if name == "unexpected":
                raise StartError(f"{shown}: Unexpected argument")
            if name in _DAEMON:
                effect = self._told(shown, lambda: _DAEMON[name](self, value, shown))
                if effect is not None:
                    await self._effect(shown, effect)
        self._write_pid_file()

    # -- errors
    async def _effect(self, shown: str, effect: Effect) -> None:
        try:
            await effect()
        except (QmpError, ArgumentError, ParseError) as error:
            raise _start_error(shown, error) from None

    def _told(self, shown: str, read: Callable[[], Effect | None]) -> Effect | None:
        try:
            return read()
        except (QmpError, ArgumentError, ParseError) as error:
            self.warn_of(shown, getattr(error, "warnings", []))
            raise _start_error(shown, error) from None

    def warn_of(self, shown: str, warnings: list[str]) -> None:
        """Warnings as qemu_opts has them: each with a line of advice."""
        for position in range(0, len(warnings), 2):
            self.machine.warn(f"{self.program}: {shown}: warning: {warnings[position]}\n{warnings[position + 1]}")

    # -- what readers share
    def options_of(self, kind: str, shown: str, parse: Callable[[], qemu_opts.QemuOpts]) -> qemu_opts.QemuOpts:
        """An option of QEMU's older kind. Raises OptionError, also for an id that another one of its kind has."""
        opts = parse()
        self.warn_of(shown, opts.warnings)
        if opts.id is not None:
            self.claim(kind, opts.id)
        return opts

    def claim(self, kind: str, identifier: str) -> None:
        taken = self.taken.setdefault(kind, [])
        if identifier in taken:
            raise QmpError(f"Duplicate ID '{identifier}' for {kind}")
        taken.append(identifier)

    def typed(self, command: str, text: str, implied_key: str | None) -> dict[str, Any]:
        """Option text, JSON or key=value, as the arguments of a command."""
        schema = self.machine.schema
        entry = schema.by_name[command]["arg-type"]
        if text.startswith("{"):
            return schema.check_type(entry, parse_text(text.encode()))
        return schema.convert_keyval(entry, keyval.parse(text, implied_key))

    async def command(self, name: str, arguments: dict[str, Any]) -> None:
        await handlers()[name](self.machine, arguments)

    def next_monitor_label(self) -> str:
        self._legacy_monitors += 1
        return f"compat_monitor{self._legacy_monitors - 1}"

    def add_monitor(self, identifier: str, mode: str, pretty: bool) -> None:
        """Raises QmpError."""
        chardev = self.chardevs.by_id.get(identifier)
        if chardev is None:
            raise QmpError(f'chardev "{identifier}" not found')
        if mode == "readline" and self.machine.storage_daemon:
            raise QmpError("Only QMP is supported")
        if mode == "readline" and pretty:
            raise QmpError("'pretty' is not compatible with HMP monitors")
        self.monitors.append(Monitor(self.chardevs.find(identifier), mode, pretty))

    def make_chardev(self, opts: qemu_opts.QemuOpts, shown: str) -> None:
        """Raises QmpError."""
        if opts.id is None:
            raise QmpError("chardev: no id specified")
        self.chardevs.make(opts.id, opts.to_dict(), f"{self.program}: {shown}: ")


def _start_error(shown: str, error: QmpError | ArgumentError | ParseError) -> StartError:
    hint = getattr(error, "hint", "").rstrip("\n")
    return StartError(f"{shown}: {error.desc}" + (f"\n{hint}" if hint else ""))


# -- readers: each takes an option's text apart and returns what it does later, if anything
def _blockdev(start: Start, text: str, shown: str) -> Effect:
    arguments = start.typed("blockdev-add", text, "driver")
    return lambda: start.command("blockdev-add", arguments)


def _drive(start: Start, text: str, shown: str) -> Effect:
    opts = start.machine.drives.parse(text)
    start.warn_of(shown, opts.warnings)

    async def effect() -> None:
        machine = start.machine
        none = start.machine_type == "none"
        interface, identifier = await machine.drives.add(machine.schema, opts, "none" if none else "ide")
        if interface == "virtio":
            start.late_devices.append((shown, "virtio-blk-pci", identifier))
        elif interface != "none":
            start.late_devices.append((shown, "ide-hd" if interface == "ide" else "", identifier))

    return effect


def _disk_image(start: Start, text: str, shown: str) -> Effect:
    return _drive(start, f"index=0,file={text.replace(',', ',,')},media=disk", shown)


def _object(start: Start, text: str, shown: str) -> Effect:
    if start.machine.storage_daemon or text.startswith("{"):
        arguments = start.typed("object-add", text, "qom-type")
    else:
        opts = start.options_of("object", shown, lambda: qemu_opts.parse(text, "qom-type"))
        if opts.get("qom-type") is None:
            raise QmpError("Parameter 'qom-type' is missing")
        try:
            arguments = start.typed("object-add", text, "qom-type")
        except ArgumentError as error:
            parts = error.desc.split("'")
            if error.desc.endswith("is unexpected"):
                raise QmpError(f"Invalid parameter '{parts[1]}'") from None
            raise
    return lambda: start.command("object-add", arguments)


def _chardev(start: Start, text: str, shown: str) -> Effect:
    kind = "chardev"
    if start.machine.storage_daemon:
        # Its options are forgotten as soon as they have taken effect.
        opts = chardevs.from_option(text)
        start.warn_of(shown, opts.warnings)
    else:
        opts = start.options_of(kind, shown, lambda: chardevs.from_option(text))

    async def effect() -> None:
        start.make_chardev(opts, shown)

    return effect


def _mon(start: Start, text: str, shown: str) -> Effect:
    kinds = {"mode": "str", "chardev": "str", "pretty": "bool"}
    opts = start.options_of("mon", shown, lambda: qemu_opts.parse(text, "chardev", kinds))

    async def effect() -> None:
        identifier = opts.get("chardev")
        if identifier is None:
            raise QmpError("Parameter 'chardev' is missing")
        mode = opts.get("mode", "readline")
        if mode not in ("control", "readline"):
            raise QmpError(f"Parameter 'mode' does not accept value '{mode}'")
        start.add_monitor(identifier, mode, opts.get_bool("pretty", False))

    return effect


def _daemon_monitor(start: Start, text: str, shown: str) -> Effect:
    if text.startswith("{"):
        given = start.machine.monitor_options().check_type("MonitorOptions", parse_text(text.encode()))
    else:
        given = start.machine.monitor_options().convert_keyval("MonitorOptions", keyval.parse(text, "chardev"))

    async def effect() -> None:
        start.add_monitor(given["chardev"], given.get("mode", "control"), given.get("pretty", False))

    return effect


def _legacy_monitor(mode: str, pretty: bool) -> Reader:
    def reader(start: Start, text: str, shown: str) -> Effect | None:
        if text == "none" and mode == "readline":
            return None
        label = start.next_monitor_label()
        given: dict[str, str] | None = None
        if text.startswith("chardev:"):
            label = text[8:]
        else:
            try:
                given = chardevs.from_legacy(text)
            except chardevs.NotADriver as problem:
                first = f"{shown}: {problem}\n{start.program}: " if str(problem) else ""
                raise StartError(f"{first}{shown}: parse error: {text}") from None

        async def make() -> None:
            start.chardevs.make(label, given, f"{start.program}: {shown}: ")

        async def sit() -> None:
            start.add_monitor(label, mode, pretty)

        if given is not None:
            start.legacy_chardevs.append((shown, make))
        return sit

    return reader


def _nbd_server(start: Start, text: str, shown: str) -> Effect:
    schema = start.machine.nbd_server_options()
    if text.startswith("{"):
        given = schema.check_type("NbdServerOptions", parse_text(text.encode()))
    else:
        given = schema.convert_keyval("NbdServerOptions", keyval.parse(text))
    return lambda: start.command("nbd-server-start", given)


def _export(start: Start, text: str, shown: str) -> Effect:
    arguments = start.typed("block-export-add", text, "type")
    return lambda: start.command("block-export-add", arguments)
