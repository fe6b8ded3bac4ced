"""Encrypted qcow2 images: all that is wrong with how one is opened is told, and then it is refused.

Source: qcow2_update_options_prepare and qcow2_read_extensions, block/qcow2.c, 7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from simulator.block.drivers.qcow2_header import Header

_LUKS = 2
_EXTENSION_BYTES = 16
NOT_SIMULATED = "Encrypted images are not simulated"


def check_options(options: dict[str, Any], header: Header) -> None:
    """Raises QmpError."""
    given = options.get("encrypt")
    if not header.crypt_method:
        if given is not None:
            raise QmpError(f"No encryption in image header, but options specified format '{given['format']}'")
        return
    if header.crypt_method != _LUKS:
        raise QmpError(f"Unsupported encryption method {_signed(header.crypt_method)}")
    if given is not None and given["format"] != "luks":
        raise QmpError(f"Header reported 'luks' encryption format but options specify '{given['format']}'")


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number


def check_extension(options: dict[str, Any], header: Header, objects: Mapping[str, Any]) -> None:
    """Raises QmpError for every image that is encrypted."""
    extension = header.encryption
    if extension is None:
        if header.crypt_method:
            raise QmpError(f"Missing CRYPTO header for crypt method {header.crypt_method}")
        return
    if header.crypt_method != _LUKS:
        raise QmpError("CRYPTO header extension only expected with LUKS encryption method")
    if len(extension) != _EXTENSION_BYTES:
        raise QmpError(f"CRYPTO header extension size {len(extension)}, but expected size {_EXTENSION_BYTES}")
    offset = int.from_bytes(extension[:8], "big")
    if offset % header.cluster_bytes:
        raise QmpError(
            f"Encryption header offset '{offset}' is not a multiple of cluster size '{header.cluster_bytes}'"
        )
    secret = (options.get("encrypt") or {}).get("key-secret")
    if secret is None:
        raise QmpError("Parameter 'encrypt.key-secret' is required for cipher")
    if secret not in objects:
        raise QmpError(f"No secret with id '{secret}'")
    raise QmpError(NOT_SIMULATED)
