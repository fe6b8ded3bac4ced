"""A node whose image was found corrupt: nothing can be done with it any more (bs->drv is NULL in QEMU)."""

from __future__ import annotations

from errno import ENOMEDIUM
from os import strerror

from simulator.block.driver import Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from simulator.block.driver import DriverStatus


def _refuse() -> NoReturn:
    raise OSError(ENOMEDIUM, strerror(ENOMEDIUM))


class Ejected(Driver):
    """In the place of the node's driver, whose name it keeps."""

    def __init__(self, before: Driver) -> None:
        super().__init__(before.node)
        self.format_name = before.format_name

    async def read(self, offset: int, length: int) -> bytes:
        _refuse()

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        _refuse()

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        _refuse()

    async def discard(self, offset: int, length: int) -> None:
        _refuse()

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        _refuse()

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        raise QmpError("No medium inserted")

    def image_info(self) -> dict[str, Any]:
        raise QmpError(f"Block device {self.node.node_name} is ejected")
