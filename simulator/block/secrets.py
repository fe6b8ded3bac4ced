"""Objects of type `secret`. Source: crypto/secret.c, crypto/secret_common.c, 7.2."""

from __future__ import annotations

from base64 import b64decode

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.host import Host


class Secret:
    """`payload` is what it hides."""

    __slots__ = ("payload", "properties", "type_name")

    def __init__(self, properties: dict[str, Any], host: Host) -> None:
        """Raises QmpError."""
        self.type_name, self.properties = "secret", properties
        if "file" in properties and "data" in properties:
            raise QmpError("'file' and 'data' are mutually exclusive")
        if "file" in properties:
            payload = _read(host, properties["file"])
        elif "data" in properties:
            payload = properties["data"].encode()
        else:
            raise QmpError("Either 'file' or 'data' must be provided")
        if "keyid" in properties:
            raise QmpError("secrets that are encrypted with another (keyid) are not simulated")
        if properties.get("format", "raw") == "base64":
            payload = _decode(payload)
        self.payload = payload


def _read(host: Host, path: str) -> bytes:
    try:
        return host.read_all(path)
    except OSError as error:
        raise QmpError(
            f"Unable to read {path}: Failed to open file \u201c{path}\u201d: {error.strerror}"
        ) from None


def _decode(text: bytes) -> bytes:
    try:
        return b64decode(text.translate(None, b" \t\r\n"), validate=True)
    except ValueError:
        raise QmpError("Base64 data contains invalid characters") from None


def find_secret(objects: dict[str, Any], identifier: str) -> str:
    """As text. Raises QmpError (qcrypto_secret_lookup_as_utf8)."""
    found = objects.get(identifier)
    if found is None:
        raise QmpError(f"No secret with id '{identifier}'")
    if not isinstance(found, Secret):
        raise QmpError(f"Object with id '{identifier}' is not a secret")
    try:
        return found.payload.decode()
    except UnicodeDecodeError:
        raise QmpError(f"Data from secret {identifier} is not valid UTF-8") from None
