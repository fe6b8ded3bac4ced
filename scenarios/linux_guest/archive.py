"""A newc cpio archive, which the kernel unpacks as its first file system
(Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import stat
from pathlib import PurePosixPath


class Archive:
    """Files in the order they were added; directories are made as they are needed. Owner is root, time zero:
    equal contents are equal bytes."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._count = 0
        self._directories: set[str] = set()

    def directory(self, name: str) -> None:
        if name not in self._directories and name not in ("", "."):
            self.directory(str(PurePosixPath(name).parent))
            self._directories.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, executable: bool = False) -> None:
        """`name` without a slash in front."""
        self.directory(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def device(self, name: str, major: int, minor: int) -> None:
        """A character device."""
        self.directory(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return bytes(self._out)

    def _entry(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, time, size, device of the file, device it is, length of the name, sum
        fields = (self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        self._out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._pad()
        self._out += content
        self._pad()

    def _pad(self) -> None:
        self._out += bytes(-len(self._out) % 4)
