"""Names of images that say how they are reached: a path, file:PATH, json:{...}, nbd:... and its URIs.

Source: bdrv_fill_options, block.c; nbd_parse_filename and nbd_parse_uri, block/nbd.c, 7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NBD_PORT = "10809"
_EXPORT = ":exportname="


def protocol_options(filename: str) -> dict[str, Any]:
    """The options of the protocol node that a name other than json: stands for. Raises QmpError."""
    if protocol_driver(filename) == "nbd":
        parsed = _nbd_uri(filename) if "://" in filename else _nbd_name(filename)
        return {"driver": "nbd", **parsed}
    protocol, colon, path = filename.partition(":")
    is_plain = not colon or "/" in protocol
    return {"driver": "file", "filename": filename if is_plain else path}


def protocol_driver(filename: str) -> str:
    """The driver of the protocol that a name begins with (bdrv_find_protocol). Raises QmpError."""
    protocol, colon, _ = filename.partition(":")
    if not colon or "/" in protocol or protocol == "file":
        return "file"
    if protocol in ("nbd", "nbd+tcp", "nbd+unix"):
        return "nbd"
    raise QmpError(f"Unknown protocol '{protocol}'")


def _nbd_name(filename: str) -> dict[str, Any]:
    name, _, export = filename.partition(_EXPORT)
    named = {"export": export} if export else {}
    if not name.startswith("nbd:"):
        raise QmpError("File name string for NBD must start with 'nbd:'")
    place = name.removeprefix("nbd:")
    if place.startswith("unix:"):
        return {"server": {"type": "unix", "path": place.removeprefix("unix:")}, **named}
    host, colon, port = place.rpartition(":")
    if not colon:
        raise QmpError(f"error parsing address '{place}'")
    return {"server": {"type": "inet", "host": host.strip("[]"), "port": port}, **named}


def _nbd_uri(filename: str) -> dict[str, Any]:
    scheme, _, rest = filename.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, export = rest.partition("/")
    named = {"export": export} if export else {}
    if scheme == "nbd+unix":
        name, _, path = query.partition("=")
        if authority or name != "socket" or "&" in query:
            raise QmpError("No valid URL specified")
        return {"server": {"type": "unix", "path": path}, **named}
    if query or not authority:
        raise QmpError("No valid URL specified")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, _NBD_PORT
    return {"server": {"type": "inet", "host": host.strip("[]"), "port": port}, **named}
