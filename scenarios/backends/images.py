"""Disk images: made before a run, checked and read after it, by qemu-img where the format needs it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from scenarios.backends.interface import SetupError
from scenarios.language.steps import Disk

# Runs a tool in the machine's directory: status, standard output, standard error.
RunTool = Callable[[Sequence[str]], Awaitable[tuple[int, bytes, str]]]

# An empty image of one geometry made by one qemu-img is the same bytes every time, and it takes 15 ms to make
# them.
_empty_images: dict[tuple[str, int, int | None], bytes] = {}
_LARGEST_KEPT_BYTES = 4 << 20


async def create_image(path: Path, disk: Disk, tools_of: str, run_tool: RunTool) -> None:
    """An image of the disk's size and format that reads as zeroes. `tools_of` names whose qemu-img
    `run_tool` runs. Raises SetupError with qemu-img's words."""
    if disk.format == "raw":
        with path.open("wb") as file:
            file.truncate(disk.size)
        return
    geometry = (tools_of, disk.size, disk.cluster)
    empty = _empty_images.get(geometry)
    if empty is not None:
        path.write_bytes(empty)
        return
    options = [] if disk.cluster is None else ["-o", f"cluster_size={disk.cluster}"]
    argv = ["qemu-img", "create", "-q", "-f", disk.format, *options, str(path), str(disk.size)]
    status, _, stderr = await run_tool(argv)
    if status != 0:
        raise SetupError(
            f"{' '.join(argv)}: expected status 0, got {status}; standard error: {stderr.strip()}"
        )
    if path.stat().st_size <= _LARGEST_KEPT_BYTES:
        _empty_images[geometry] = path.read_bytes()


class ImageReader:
    """Reads a raw image: called with (offset, length) it returns the bytes, fewer at the end of the disk."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def __call__(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def data_ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what the file system holds; everything between reads as zeroes."""
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self._file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(self._file.fileno(), start, os.SEEK_HOLE)
            yield start, end - start

    def close(self) -> None:
        self._file.close()


async def read_back(
    path: Path, image_format: str, copy: Path, run_tool: RunTool
) -> tuple[int, ImageReader, int, str]:
    """Size, reader, and `qemu-img check`'s status and output. `copy` is a file to be made, outside the
    machine's directory. An image that qemu-img cannot read is an empty reader and the failing status."""
    if image_format == "raw":
        reader = ImageReader(path)
        return reader.size, reader, 0, ""
    (status, out, err), (copy_status, _, copy_err) = await asyncio.gather(
        run_tool(["qemu-img", "check", "-f", image_format, str(path)]),
        run_tool(["qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(copy)]),
    )
    said = (out.decode(errors="replace") + err).strip()
    if copy_status != 0:
        copy.write_bytes(b"")
        return (
            0,
            ImageReader(copy),
            status or copy_status,
            f"{said}\nqemu-img convert: {copy_err.strip()}".strip(),
        )
    reader = ImageReader(copy)
    return reader.size, reader, status, said
