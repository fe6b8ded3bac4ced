"""The files of a real machine: its disks' images and what serves them, before, while and after it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scenarios.backends.images import ImageReader, create_image, read_back
from scenarios.backends.launcher import Launch
from scenarios.backends.nbdkit import Nbdkit
from scenarios.backends.rooms import make_room, rooms_of
from scenarios.backends.shared_session import SharedSession
from scenarios.backends.storage import StorageServer, served_bytes
from scenarios.language.steps import Fault

EXCHANGE_NS = 30_000_000_000


class DiskSession(SharedSession):
    """The part of AsyncioSession that is about files in the run's directory.

    Of two machines in one directory the second has another `suffix` to the names of its own files, and may
    be on the images of the first, which is `first` to it.
    """

    directory: Path
    _launch: Launch
    second: DiskSession | None = None

    def __init__(self, host: SharedSession | None) -> None:
        super().__init__(host)
        self.suffix = ""
        self.is_second = self._shares_images = False
        self._readers: list[ImageReader] = []
        self._storage: list[Nbdkit] = []

    def be_second(self, images: str) -> None:
        """Before anything of it is made. `images` as Destination has it."""
        self.suffix, self.is_second, self._shares_images = "-destination", True, images == "shared"
        self.nbd_path = str(self.directory / f"nbd{self.suffix}.sock")

    @property
    def image_suffix(self) -> str:
        """What stands in images' names between the disk's and the format's."""
        return "" if self._shares_images else self.suffix

    async def prepare(self) -> None:
        """Make the disks' images, and room for others. Raises SetupError."""
        for name, size in rooms_of(self._scenario).items():
            make_room(self.directory / name, size)
        if self._shares_images:
            return
        for name, disk in self._scenario.disks.items():
            await create_image(self.image_path(name), disk, self._launch.tools_of, self._image_tool)

    async def tool(self, argv: Sequence[str], timeout_ns: int = 60_000_000_000) -> tuple[int, bytes, str]:
        return await self._launch.run_tool(argv, timeout_ns)

    async def _image_tool(self, argv: Sequence[str]) -> tuple[int, bytes, str]:
        return await self._launch.run_tool(argv, EXCHANGE_NS)

    def image_path(self, disk: str) -> Path:
        return self.directory / f"{disk}{self.image_suffix}.{self._scenario.disks[disk].format}"

    def image_name(self, disk: str) -> str:
        return str(self.image_path(disk))

    async def serve_storage(self, disk: str, fault: Fault) -> StorageServer:
        path, described = self.image_path(disk), self._scenario.disks[disk]
        os.truncate(path, served_bytes(described.format, described.size, path.stat().st_size))
        server = Nbdkit(self._launch.place, path, fault)
        self._storage.append(server)
        await server.start()
        return server

    async def _end_storage(self) -> None:
        servers, self._storage = self._storage, []
        for server in servers:
            await server.close()

    def close_files(self) -> None:
        """What reads the images after the end."""
        for reader in self._readers:
            reader.close()

    async def left_behind(self) -> list[tuple[str, str, str]]:
        """Files and sockets in the directory, and processes that outlived the machine. Of two machines in it
        the first one tells of the files of both."""
        left = [] if self.is_second else self._files_left()
        return left + [("process", str(pid), name) for pid, name in self._child.survivors]

    def _files_left(self) -> list[tuple[str, str, str]]:
        machines = [self, self.second] if self.second is not None else [self]
        ours = {each.image_path(disk).name for each in machines for disk in self._scenario.disks}
        rooms = rooms_of(self._scenario)
        left: list[tuple[str, str, str]] = []
        folders = [self.directory, *(self.directory / room for room in rooms)]
        for path in sorted(path for folder in folders for path in folder.iterdir()):
            if path.is_socket():
                if not any(each._may_leave_socket(path) for each in machines):
                    left.append(("file", path.name, "socket"))
            elif path.name not in ours and path.name not in rooms:
                left.append(("file", path.name, f"{path.stat().st_size} bytes"))
        return left

    def _may_leave_socket(self, path: Path) -> bool:
        """After an end that was not in order, such as a SIGKILL of ours, nobody removes any; QEMU 7.2 does
        not remove the NBD server's either, when it still ran at the end."""
        died = self._child.status not in (None, 0)
        return died or (self.nbd_server_running and str(path) == self.nbd_path)

    async def final_image(self, disk: str) -> tuple[int, ImageReader, int, str]:
        copy = self._launch.place.path / f"{disk}{self.suffix}.final.raw"
        path = self.image_path(disk)
        size, reader, status, said = await read_back(
            path, self._scenario.disks[disk].format, copy, self._image_tool
        )
        self._readers.append(reader)
        return size, reader, status, said
