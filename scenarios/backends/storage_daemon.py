"""`storage-daemon[:PATH]`: qemu-storage-daemon; the guest is a writable NBD export of a raw node on top of
the disk."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from scenarios.backends.asyncio_backend import AsyncioBackend
from scenarios.backends.asyncio_session import AsyncioSession
from scenarios.backends.interface import Backend, Guest, NbdClient, QmpRefused, SetupError
from scenarios.backends.launcher import HostLauncher, Launch, Launcher
from scenarios.backends.nbd_guest import NbdGuest
from scenarios.backends.qemu import blockdev_arguments
from scenarios.backends.shared_session import Command, start_server
from scenarios.language.steps import Scenario

PREFIX = "storage-daemon"
FORM = "storage-daemon[:PATH]"
PROGRAM = "qemu-storage-daemon"
PACKAGE = "qemu-system-common"


def top_options(disk: str, node_name: str) -> dict[str, Any]:
    """The guest's raw node, standing on `node_name`; all options each time, as blockdev-reopen resets the
    others."""
    return {"driver": "raw", "node-name": f"{disk}-top", "file": node_name, "discard": "unmap"}


def guest_export(disk: str) -> dict[str, Any]:
    name = f"{disk}-guest"
    return {"type": "nbd", "id": name, "node-name": f"{disk}-top", "name": name, "writable": True}


class StorageDaemonSession(AsyncioSession):
    """A daemon has one NBD server at a time, and here the guest lives on it: it runs from the start (attach:
    device)."""

    def __init__(
        self,
        program: str,
        launch: Launch,
        scenario: Scenario,
        features: frozenset[str],
        start_ns: int,
        host: AsyncioSession | None = None,
    ) -> None:
        super().__init__(program, launch, scenario, features, start_ns, host)
        if scenario.attach == "drive":
            raise SetupError("attach: drive needs a machine with drives; a storage daemon has none")
        self._guest_clients: dict[str, NbdClient] = {}
        self._guests_exported = False
        self._repairing = asyncio.Lock()
        self._connecting = asyncio.Lock()

    def command_line(self, control: str) -> list[str]:
        arguments: list[str] = []
        for name, disk in self._scenario.disks.items():
            arguments += blockdev_arguments(name, disk, "--blockdev")
        if self._has_guests():
            arguments += ["--nbd-server", f"addr.type=unix,addr.path={self.nbd_path}"]
            for name in self._scenario.disks:
                arguments += ["--blockdev", json.dumps(top_options(name, name))]
                arguments += ["--export", json.dumps(guest_export(name))]
        return [*arguments, *self.monitors("--chardev", control)]

    def monitor_of(self, chardev: str) -> list[str]:
        return ["--monitor", f"chardev={chardev}"]

    def _has_guests(self) -> bool:
        return self._scenario.attach == "device" and bool(self._scenario.disks)

    async def start(self) -> None:
        await super().start()
        self.nbd_server_running = self._has_guests()
        self._guests_exported = self._has_guests()

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        returned = await super().qmp(command, arguments)
        if command == "nbd-server-stop":
            self._guests_exported = False
            await self.forget_guests()
        return returned

    async def repair_guest(self) -> None:
        async with self._repairing:
            if not self._has_guests() or self._guests_exported:
                return
            await self.ensure_nbd_server()
            for disk in self._scenario.disks:
                await self.qmp("block-export-add", guest_export(disk))
            self._guests_exported = True

    def guests_in(self) -> list[Command]:
        if not self._has_guests():
            return []
        self._guests_exported = True
        disks = self._scenario.disks
        return [
            *(("blockdev-add", top_options(disk, disk)) for disk in disks),
            start_server(self.nbd_path),
            *(("block-export-add", guest_export(disk)) for disk in disks),
        ]

    def guests_out(self) -> list[Command]:
        if not self._has_guests():
            return []
        stop: list[Command] = [("nbd-server-stop", {})] if self.nbd_server_running else []
        return stop + [("blockdev-del", {"node-name": f"{disk}-top"}) for disk in self._scenario.disks]

    def make_guest(self, disk: str) -> Guest:
        if self._scenario.attach == "none":
            raise AssertionError(f"disk {disk} has no guest (attach: none)")
        return NbdGuest(lambda: self._guest_client(disk))

    async def _guest_client(self, disk: str) -> NbdClient:
        """One connection a disk, kept open; lanes that ask at once get the same one."""
        if disk in self._guest_clients:
            return self._guest_clients[disk]
        await self.repair_guest()
        async with self._connecting:
            if disk not in self._guest_clients:
                self._guest_clients[disk] = await self.nbd(f"{disk}-guest")
            return self._guest_clients[disk]

    async def forget_guests(self) -> None:
        clients, self._guest_clients = list(self._guest_clients.values()), {}
        for client in clients:
            await client.drop()

    async def put_on_top(self, disk: str, node_name: str) -> None:
        if not self._has_guests():
            raise QmpRefused("GenericError", f"disk {disk} has no guest to be put on {node_name}")
        await self.qmp("blockdev-reopen", {"options": [top_options(disk, node_name)]})


class StorageDaemonBackend(AsyncioBackend):
    """`program`: path, or a name that the launcher finds; looked up when the backend is opened."""

    def __init__(self, name: str, program: str = PROGRAM, launcher: Launcher | None = None) -> None:
        super().__init__(name, program, launcher or HostLauncher())

    @property
    def features(self) -> frozenset[str]:
        return frozenset({"processes", "real"})

    def make_session(
        self, launch: Launch, scenario: Scenario, host: AsyncioSession | None = None
    ) -> StorageDaemonSession:
        return StorageDaemonSession(self._program, launch, scenario, self.features, self.start_ns, host)


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: what follows "storage-daemon:": the program, or a directory that QEMU was built in; empty
    for the program in PATH. Raises SetupError."""
    if os.path.isdir(argument):
        return StorageDaemonBackend(name, PROGRAM, HostLauncher(Path(argument)))
    try:
        return StorageDaemonBackend(name, argument or PROGRAM)
    except SetupError as error:
        if argument:
            raise
        raise SetupError(f"{error}; Debian has it in {PACKAGE}: apt-get install {PACKAGE}") from error
