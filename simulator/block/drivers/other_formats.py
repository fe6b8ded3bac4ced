"""Image formats that are told from others, and refused: what is no image of theirs in QEMU's words, what is
one as not simulated. Source: the open functions in block/FORMAT.c, 7.2."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.driver import Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VDI_SIGNATURE = 0xBEDA107F
_CLOOP_MOST_BYTES = 64 << 20


class OtherFormat(Driver):
    children = (("file", permissions.IMAGE, True),)

    async def open(self, options: dict[str, Any]) -> None:
        await self._check(options)
        raise QmpError(f"Images of format {self.format_name} are not simulated")

    async def _check(self, options: dict[str, Any]) -> None:
        """Raise QmpError if it is no such image."""
        raise NotImplementedError

    async def _head(self, length: int, offset: int = 0) -> bytes:
        return bytes(await self.file.read(offset, length))

    def _need_read_only(self) -> None:
        """bdrv_apply_auto_read_only."""
        node = self.node
        if node.read_only:
            return
        if not node.auto_read_only:
            raise QmpError("Image is read-only")
        node.read_only = True


class Qed(OtherFormat):
    format_name = "qed"

    async def _check(self, options: dict[str, Any]) -> None:
        if await self._head(4) != b"QED\0":
            raise QmpError("Image not in QED format")


class Vmdk(OtherFormat):
    format_name = "vmdk"

    async def _check(self, options: dict[str, Any]) -> None:
        if self.file.node.size_bytes < 4:
            raise QmpError("File is too small, not a valid image")
        text = await self._head(min(self.file.node.size_bytes, (1 << 20) - 1))
        if text[:4] not in (b"COWD", b"KDMV") and b'\ncreateType="' not in text.split(b"\0", 1)[0]:
            raise QmpError("invalid VMDK image descriptor")


class Vdi(OtherFormat):
    format_name = "vdi"

    async def _check(self, options: dict[str, Any]) -> None:
        signature = int.from_bytes(await self._head(4, 0x40), "little")
        if signature != _VDI_SIGNATURE:
            raise QmpError(f"Image not in VDI format (bad signature {signature:08x})")


class Vpc(OtherFormat):
    format_name = "vpc"

    async def _check(self, options: dict[str, Any]) -> None:
        if await self._head(8) == b"conectix":
            return
        size = self.file.node.size_bytes
        if size < 512:
            raise QmpError("File too small for a VHD header")
        if await self._head(8, size - 512) != b"conectix":
            raise QmpError("invalid VPC image")


class Vhdx(OtherFormat):
    format_name = "vhdx"

    async def _check(self, options: dict[str, Any]) -> None:
        if await self._head(8) != b"vhdxfile":
            name = self.file.node.filename
            raise QmpError(f"Could not open '{name}': Invalid argument")


class Qcow(OtherFormat):
    format_name = "qcow"

    async def _check(self, options: dict[str, Any]) -> None:
        head = await self._head(8)
        if head[:4] != b"QFI\xfb":
            raise QmpError("Image not in qcow format")
        version = int.from_bytes(head[4:], "big")
        if version != 1:
            refusal = QmpError(f"qcow (v1) does not support qcow version {version}")
            if version in (2, 3):
                refusal.hint = "Try the 'qcow2' driver instead.\n"
            raise refusal


class Luks(OtherFormat):
    format_name = "luks"

    async def _check(self, options: dict[str, Any]) -> None:
        if "key-secret" not in options:
            raise QmpError("Parameter 'key-secret' is required for cipher")
        if options["key-secret"] not in self.node.graph.objects:
            raise QmpError(f"No secret with id '{options['key-secret']}'")
        if await self._head(6) != b"LUKS\xba\xbe":
            raise QmpError("Volume is not in LUKS format")


class Parallels(OtherFormat):
    format_name = "parallels"

    async def _check(self, options: dict[str, Any]) -> None:
        head = await self._head(20)
        is_version_2 = int.from_bytes(head[16:], "little") == 2
        if head[:16] not in (b"WithoutFreeSpace", b"WithouFreSpacExt") or not is_version_2:
            raise QmpError("Image not in Parallels format")


class Bochs(OtherFormat):
    format_name = "bochs"

    async def _check(self, options: dict[str, Any]) -> None:
        self._need_read_only()
        head = await self._head(64)
        if head.split(b"\0", 1)[0] != b"Bochs Virtual HD Image":
            raise QmpError("Image not in Bochs format")


class Cloop(OtherFormat):
    format_name = "cloop"

    async def _check(self, options: dict[str, Any]) -> None:
        self._need_read_only()
        block_bytes = int.from_bytes(await self._head(4, 128), "big")
        if block_bytes % 512:
            raise QmpError(f"block_size {block_bytes} must be a multiple of 512")
        if not block_bytes:
            raise QmpError("block_size cannot be zero")
        if block_bytes > _CLOOP_MOST_BYTES:
            raise QmpError(f"block_size {block_bytes} must be 64 MB or less")


class Dmg(OtherFormat):
    format_name = "dmg"

    async def _check(self, options: dict[str, Any]) -> None:
        self._need_read_only()
        size = self.file.node.size_bytes
        if size < 512:
            raise QmpError("dmg file must be at least 512 bytes long")
        start = max(0, size - 1023)
        if b"koly" not in (await self._head(size - start, start))[: size - start - 508]:
            raise QmpError("Could not locate UDIF trailer in dmg file")
