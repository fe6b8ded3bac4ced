"""What both executables do: read the command line, build the machine, serve it."""

from __future__ import annotations

import os
import sys
import time

from simulator import versions
from simulator.machine import Machine
from simulator.serve import network, process
from simulator.serve.host_files import DiskHost
from simulator.serve.options import StartError, split_daemon, split_system
from simulator.serve.server import Server
from simulator.serve.start import Start


def main(program: str, version_name: str, argv: list[str]) -> int:
    """Run as `program` ("qemu-system-x86_64" or "qemu-storage-daemon") of a version; returns the exit status."""
    daemon = program == "qemu-storage-daemon"
    try:
        options = (split_daemon if daemon else split_system)(argv)
        names = {name for name, _, _ in options}
        version = versions.load(version_name)
        if "version" in names:
            return _print_version(version, daemon)
        if names & {"h", "help"}:
            return _print_help(program)
        return _run(version, daemon, options, "daemonize" in names)
    except StartError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1


def _print_version(version: versions.Version, daemon: bool) -> int:
    identity = version.identity
    name = "qemu-storage-daemon version" if daemon else "QEMU emulator version"
    number = f"{identity.major}.{identity.minor}.{identity.micro}"
    print(f"{name} {number} ({identity.package})\nSimulated by goldenfleece")
    return 0


def _print_help(program: str) -> int:
    print(f"usage: {program} [options]\n\nA simulated QEMU (goldenfleece): the options of the block layer and of monitors")
    return 0


def _run(version: versions.Version, daemon: bool, options: list[tuple[str, str, str]], daemonize: bool) -> int:
    background = process.Daemon()
    if daemonize:
        background.fork()
    # From the time of day, so that no two runs draw the same node names; the host's time is nobody's secret here.
    machine = Machine(
        version, DiskHost(), storage_daemon=daemon, seed=time.time_ns() ^ os.getpid(), epoch_ns=time.time_ns()
    )
    machine.listen = network.listen
    server = Server(machine)
    start = Start(machine)
    begun = machine.spawn((start.daemon if daemon else start.system)(options), "start")
    machine.scheduler.run_until(begun)
    if start.pid_file:
        process.write_pid_file(start.pid_file)
    ending = []
    process.on_signals(lambda: ending.append(machine.spawn(machine.shut_down("host-signal"), "end by signal")))
    for monitor in start.monitors:
        server.add_monitor(monitor)
    background.ready()
    try:
        server.serve()
    finally:
        if start.pid_file:
            _remove(start.pid_file)
    return 0


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
