"""Driver `host_device`: a device of the host. Source: raw_open_common and raw_co_truncate in
block/file-posix.c, 7.2."""

from __future__ import annotations

from simulator.block.drivers.file import File
from simulator.block.errors import QmpError


class HostDevice(File):
    """Options as of `file`. It stays as long as it is: what is wanted may be shorter."""

    format_name = "host_device"
    _kind = "either a character or block device"

    def _is_right_kind(self) -> bool:
        return self._file.is_device

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        if preallocation != "off":
            raise QmpError(f"Preallocation mode '{preallocation}' unsupported for this non-regular file")
        if exact and size_bytes != self.node.size_bytes:
            raise QmpError("Cannot resize device files")
        if size_bytes > self.node.size_bytes:
            raise QmpError("Cannot grow device files")


class HostCdrom(HostDevice):
    """A drive of the host with a disc in it."""

    format_name = "host_cdrom"
