"""Objects of type `secret`. Source: crypto/secret.c, crypto/secret_common.c, 7.2."""

from __future__ import annotations

from base64 import b64decode
from errno import EISDIR

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.host import Host

_KEY_BYTES, _IV_BYTES = 32, 16


class Secret:
    """`payload` is what it hides."""

    __slots__ = ("payload", "properties", "type_name")

    def __init__(self, properties: dict[str, Any], host: Host, objects: dict[str, Any]) -> None:
        """Raises QmpError."""
        self.type_name, self.properties = "secret", properties
        if "file" in properties and "data" in properties:
            raise QmpError("'file' and 'data' are mutually exclusive")
        if "file" in properties:
            payload = read_file(host, properties["file"], f"Unable to read {properties['file']}: ")
        elif "data" in properties:
            payload = properties["data"].encode()
        else:
            raise QmpError("Either 'file' or 'data' must be provided")
        if "keyid" in properties:
            self._check_key(objects)
            raise QmpError("secrets that are encrypted with another (keyid) are not simulated")
        if properties.get("format", "raw") == "base64":
            payload = _decode(payload)
        self.payload = payload

    def _check_key(self, objects: dict[str, Any]) -> None:
        """As qcrypto_secret_decrypt does, before it deciphers. Raises QmpError."""
        if len(_payload(objects, self.properties["keyid"])) != _KEY_BYTES:
            raise QmpError(f"Key should be {_KEY_BYTES} bytes in length")
        if "iv" not in self.properties:
            raise QmpError("IV is required to decrypt secret")
        length = len(_decode(self.properties["iv"].encode()))
        if length != _IV_BYTES:
            raise QmpError(f"IV should be {_IV_BYTES} bytes in length not {length}")


def read_file(host: Host, path: str, failure: str) -> bytes:
    """The whole file. Raises QmpError: `failure`, and what g_file_get_contents says."""
    try:
        return host.read_all(path)
    except OSError as error:
        doing = "Error reading file" if error.errno == EISDIR else "Failed to open file"
        raise QmpError(f"{failure}{doing} \u201c{path}\u201d: {error.strerror}") from None


def _decode(text: bytes) -> bytes:
    try:
        return b64decode(text.translate(None, b" \t\r\n"), validate=True)
    except ValueError:
        raise QmpError("Base64 data contains invalid characters") from None


def find_secret(objects: dict[str, Any], identifier: str) -> str:
    """As text. Raises QmpError (qcrypto_secret_lookup_as_utf8)."""
    try:
        return _payload(objects, identifier).decode()
    except UnicodeDecodeError:
        raise QmpError(f"Data from secret {identifier} is not valid UTF-8") from None


def _payload(objects: dict[str, Any], identifier: str) -> bytes:
    found = objects.get(identifier)
    if found is None:
        raise QmpError(f"No secret with id '{identifier}'")
    if not isinstance(found, Secret):
        raise QmpError(f"Object with id '{identifier}' is not a secret")
    return found.payload
