"""From a command line to a machine that is ready to be served: what each option does, in the order QEMU
does it.

Sources: qemu_init and what it calls, softmmu/vl.c; process_options, storage-daemon/qemu-storage-daemon.c,
7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import monitor_objects
from simulator.monitor.board import DEFAULT_MEMORY_BYTES
from simulator.monitor.dispatch import handlers
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError
from simulator.serve.chardevs import Chardevs
from simulator.serve.options import Option, StartError
from simulator.wire.json_stream import ParseError, parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.machine import Machine
    from simulator.serve.chardevs import Chardev

    Effect = Callable[[], Coroutine[Any, Any, None]]
    # Takes an option's text apart (start, text, the option as shown) and plans what it does.
    Reader = Callable[["Start", str, str], None]

# What a system emulator does when: options of one stage in the order they stand in.
STAGES = (
    "descriptor",
    "object",
    "chardev",
    "blockdev",
    "drive",
    "machine",
    "accel",
    "mon",
    "board",
    "device",
    "incoming",
)


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
        self.chardevs = Chardevs(machine.chardevs, machine.version, daemonized)
        self.monitors: list[Monitor] = []
        self.machine_settings: dict[str, Any] = {}
        self.memory_bytes = DEFAULT_MEMORY_BYTES
        self.machine_shown = ""  # the first option that said something of the machine
        self.legacy_monitors = 0
        self.told: list[str] = []  # warnings that come once
        self._write_pid_file = write_pid_file
        self._planned: dict[str, list[tuple[str, Effect]]] = {stage: [] for stage in STAGES}
        self._taken: dict[str, list[str]] = {}  # kind of option: ids

    # -- the two programs
    async def system(
        self, options: list[Option], readers: dict[str, Reader], choose: Callable[[], None]
    ) -> None:
        """qemu-system: all options are read in the order they stand in, then take effect by kind.
        `choose` looks at the machine's type. Raises StartError."""
        names = [name for name, _, _ in options]
        self.machine.runs_on_arrival = "S" not in names
        self.machine.run_state = "prelaunch" if "S" in names else "running"
        self.read_only(options, readers)
        if self.machine.version.command_line.pid_file_first:
            self._write_pid_file()
            await self._carry_out("descriptor")
        else:
            await self._carry_out("descriptor")
            self._write_pid_file()
        choose()
        for stage in STAGES:
            await self._carry_out(stage)

    async def daemon(
        self, options: list[Option], readers: dict[str, Reader], wrong: StartError | None
    ) -> None:
        """qemu-storage-daemon: options take effect one after the other, up to the one that is `wrong`.
        Raises StartError."""
        reads_twice = self.machine.version.command_line.daemon_reads_twice
        for name, value, shown in options:
            if name == "unexpected" and reads_twice:
                raise StartError(f"{shown}: Unexpected argument")
            if name in readers:
                self._read(readers[name], value, shown)
                for stage in STAGES:
                    await self._carry_out(stage)
        if wrong is not None:
            raise wrong
        for name, _, shown in options:
            if name == "unexpected":
                raise StartError(f"Unexpected argument: {shown}")
        self._write_pid_file()

    def read_only(self, options: list[Option], readers: dict[str, Reader]) -> None:
        """Take all options apart. Raises StartError for the first that is wrong."""
        for name, value, shown in options:
            if name in readers:
                self._read(readers[name], value, shown)

    def plan(self, stage: str, shown: str, effect: Effect) -> None:
        """Let something happen at a stage that is still to come, or is going on."""
        self._planned[stage].append((shown, effect))

    async def _carry_out(self, stage: str) -> None:
        planned = self._planned[stage]
        while planned:
            shown, effect = planned.pop(0)
            try:
                await effect()
            except (QmpError, ArgumentError, ParseError) as error:
                raise self.error(shown, error) from None

    def error(self, shown: str, error: QmpError | ArgumentError | ParseError) -> StartError:
        """What is printed of a refused option, in the version's words."""
        hint = getattr(error, "hint", "").rstrip("\n")
        told = self.machine.version.reword(error.desc) + (f"\n{hint}" if hint else "")
        return StartError(self._place(shown) + told)

    def _place(self, shown: str) -> str:
        is_told = not self.machine.storage_daemon or self.machine.version.command_line.daemon_shows_option
        return f"{shown}: " if shown and is_told else ""

    def speaker(self, shown: str) -> str:
        """What stands before all that is told while the option has its turn."""
        return f"{self.program}: {self._place(shown)}"

    def _read(self, reader: Reader, text: str, shown: str) -> None:
        try:
            reader(self, text, shown)
        except (QmpError, ArgumentError, ParseError) as error:
            self.warn_of(shown, getattr(error, "warnings", []))
            raise self.error(shown, error) from None

    def warn_of(self, shown: str, warnings: list[str]) -> None:
        """Warnings of flags as qemu_opts has them: each with a line of advice."""
        if not self.machine.version.command_line.flags_warn:
            return
        for position in range(0, len(warnings), 2):
            self.machine.warn(f"{self.speaker(shown)}warning: {warnings[position]}\n{warnings[position + 1]}")

    # -- what readers share
    def options_of(self, kind: str, shown: str, opts: qemu_opts.QemuOpts) -> qemu_opts.QemuOpts:
        """Options of QEMU's older sort, with their warnings told. Raises QmpError for an id that another
        option of the kind has."""
        self.warn_of(shown, opts.warnings)
        if opts.id is not None:
            taken = self._taken.setdefault(kind, [])
            if opts.id in taken:
                raise QmpError(f"Duplicate ID '{opts.id}' for {kind}")
            taken.append(opts.id)
        return opts

    def typed(self, command: str, text: str, implied_key: str | None) -> dict[str, Any]:
        """Option text, JSON or key=value, as the arguments of a command."""
        schema = self.machine.schema
        entry = schema.by_name[command]["arg-type"]
        if text.startswith("{"):
            tree = parse_text(text.encode(), self.machine.version.qmp.json_pushed)
            return schema.check_type(entry, tree)
        return schema.convert_keyval(entry, keyval.parse(text, implied_key))

    async def command(self, name: str, arguments: dict[str, Any]) -> None:
        await handlers()[name](self.machine, arguments)

    def add_monitor(self, identifier: str, mode: str, pretty: bool, name: str = "") -> None:
        """On the chardev `identifier`. Raises QmpError."""
        if identifier not in self.chardevs.by_id:
            raise QmpError(f'chardev "{identifier}" not found')
        if mode == "readline" and self.machine.storage_daemon:
            raise QmpError("Only QMP is supported")
        if mode == "readline" and pretty:
            raise QmpError("'pretty' is not compatible with HMP monitors")
        chardev = self.chardevs.by_id[identifier]
        if chardev.in_use:
            raise QmpError(self.machine.version.command_line.chardev_taken.format(id=identifier))
        chardev.in_use = True
        self.monitors.append(Monitor(chardev, mode, pretty))
        if not self.machine.storage_daemon:
            monitor_objects.announce(self.machine, mode, name)
