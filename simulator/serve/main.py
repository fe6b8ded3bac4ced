"""What both executables do: read the command line, build the machine, serve it."""

from __future__ import annotations

import os
import sys
import time

from simulator import versions
from simulator.engine.own_files import keep_a_descriptor
from simulator.machine import Machine
from simulator.serve import network, process
from simulator.serve.host_files import DiskHost
from simulator.serve.options import Option, StartError, split_daemon, split_system
from simulator.serve.server import Server
from simulator.serve.start import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.nbd.tls import TlsContext, TlsSettings

_ASKED = ("h", "help", "version")


def main(program: str, version_name: str, argv: list[str]) -> int:
    """Run as `program` ("qemu-system-x86_64" or "qemu-storage-daemon") of a version; returns the exit
    status."""
    daemon = program == "qemu-storage-daemon"
    version = versions.load(version_name)
    facts = version.command_line
    wrong: StartError | None = None
    try:
        if daemon:
            options, wrong = split_daemon(argv, facts.daemon_options_unknown, facts.daemon_reads_twice)
        else:
            options = split_system(argv)
        asked = next((position for position, option in enumerate(options) if option[0] in _ASKED), None)
        if daemon and facts.daemon_reads_twice:
            if asked is not None:
                return _answer(version, program, options[asked][0])
            if wrong is not None:
                raise wrong
        return _Run(version, program, options, asked, wrong).run()
    except StartError as error:
        name = sys.argv[0] if error.by_path else program
        sys.stderr.write(f"{name}: {error}\n" if str(error) else "")
        return 1


def _make_tls(settings: TlsSettings) -> TlsContext:
    # `ssl` takes a while to import, and most runs never get here.
    from simulator.serve.tls_sessions import make_context

    return make_context(settings)


def _answer(version: versions.Version, program: str, question: str) -> int:
    if question != "version":
        print(f"usage: {program} [options]\n")
        print("A simulated QEMU (goldenfleece): the options of the block layer and of monitors")
        return 0
    identity = version.identity
    name = "QEMU emulator" if program.startswith("qemu-system") else program
    number = f"{identity.major}.{identity.minor}.{identity.micro}"
    print(f"{name} version {number} ({identity.package})\nSimulated by goldenfleece")
    return 0


class _Run:
    """One machine from its command line to its end. `asked` is the position of an option that only asks
    for the version or help: those in front of it are read, and may be wrong. `wrong` is behind them all."""

    def __init__(
        self,
        version: versions.Version,
        program: str,
        options: list[Option],
        asked: int | None,
        wrong: StartError | None,
    ) -> None:
        self._version, self._program, self._wrong = version, program, wrong
        self._options, self._asked = options, asked
        self._daemon = program == "qemu-storage-daemon"
        names = [name for name, _, _ in options]
        self._daemonize = "daemonize" in names and asked is None
        paths = [value for name, value, _ in options if name == "pidfile"]
        self._pid_file = process.PidFile(paths[-1] if paths else "", version.command_line.pid_file_refusal)
        self._terminal = process.Terminal()

    def run(self) -> int:
        background = process.Daemon()
        if self._daemonize:
            background.fork()
        # From the time of day, so that no two runs draw the same node names.
        seed = time.time_ns() ^ os.getpid()
        host = DiskHost()
        machine = Machine(
            self._version, host, storage_daemon=self._daemon, seed=seed, epoch_ns=time.time_ns()
        )
        machine.listen = network.listen
        machine.make_tls = _make_tls
        server = Server(machine, self._program)
        host.on_connect, host.on_listen = server.add_outgoing, server.watch_listener
        try:
            start = self._start(machine, server)
            if self._asked is not None:
                return _answer(self._version, self._program, self._options[self._asked][0])
            if any(monitor.chardev.read_fd == 0 for monitor in start.monitors):
                self._terminal.take()
            for monitor in start.monitors:
                server.add_monitor(monitor)
            background.ready()
            keep_a_descriptor()  # not earlier: a command line may name descriptors that were handed down
            server.serve()
            if machine.exit_status:
                return process.end(machine.exit_status)
            start.chardevs.close()
        finally:
            self._terminal.give_back()
            self._pid_file.remove()
        return 0

    def _start(self, machine: Machine, server: Server) -> Start:
        if self._asked is None:
            server.heed(process.Signals())
        start = Start(machine, self._program, self._daemonize, self._pid_file.write)
        if self._daemon:
            from simulator.serve.readers import DAEMON

            if self._asked is None:
                work = start.daemon(self._options, DAEMON, self._wrong)
            else:
                read = [option for option in self._options[: self._asked] if option[0] != "unexpected"]
                work = start.daemon(read, DAEMON, None)
        else:
            from simulator.serve.system_options import SYSTEM, choose_machine

            read = self._options[: self._asked]
            if self._asked is not None:
                start.read_only(read, SYSTEM)
                return start
            work = start.system(read, SYSTEM, lambda: choose_machine(start))
        try:
            server.run_until(machine.spawn(work, "start"))
        finally:
            server.print()
        return start
