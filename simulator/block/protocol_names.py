"""Names of images that say how they are reached: a path, file:PATH, json:{...}, nbd:... and its URIs, a
driver that needs no file or one around others.

Source: bdrv_fill_options and bdrv_find_protocol, block.c; nbd_parse_filename and nbd_parse_uri, block/nbd.c;
null_co_parse_filename, block/null.c; blkdebug_parse_filename, block/blkdebug.c; blkverify_parse_filename,
block/blkverify.c, 7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NBD_PORT = "10809"
_EXPORT = ":exportname="
# Drivers that a name can begin with.
_NAMED = ("file", "host_device", "null-co", "null-aio", "blkdebug", "blkverify", "nbd")


def protocol_options(filename: str) -> dict[str, Any]:
    """The options of the protocol node that a name other than json: stands for. Raises QmpError."""
    driver = protocol_driver(filename)
    return {"driver": driver, **parsed(driver, filename)}


def protocol_driver(filename: str) -> str:
    """By what stands before the first colon, if no slash does (bdrv_find_protocol)."""
    protocol, colon, _ = filename.partition(":")
    if not colon or "/" in protocol:
        return "file"
    if protocol in ("nbd+tcp", "nbd+unix"):
        return "nbd"
    if protocol in _NAMED:
        return protocol
    raise QmpError(f"Unknown protocol '{protocol}'")


def parsed(driver: str, filename: str) -> dict[str, Any]:
    """The options of a node of the driver that a file's name stands for (bdrv_parse_filename). Raises
    QmpError."""
    if driver == "nbd":
        return _nbd_uri(filename) if "://" in filename else _nbd_name(filename)
    if driver in ("null-co", "null-aio"):
        if filename != f"{driver}://":
            raise QmpError(f"The only allowed filename for this driver is '{driver}://'")
        return {}
    path = filename.removeprefix(f"{driver}:")
    if driver in ("blkdebug", "blkverify"):
        return _around(driver, path, path != filename)
    return {"filename": path}


def _around(driver: str, path: str, has_prefix: bool) -> dict[str, Any]:
    """blkdebug:[CONFIG]:IMAGE and blkverify:RAW:IMAGE; without its prefix a name is the image's."""
    first, colon, image = path.partition(":") if has_prefix else ("", ":", path)
    if driver == "blkdebug":
        if not colon:
            raise QmpError("blkdebug requires both config file and image path")
        return {**({"config": first} if first else {}), "image": protocol_options(image)}
    if not colon:
        raise QmpError("blkverify requires raw copy and original image path")
    return {**({"raw": protocol_options(first)} if has_prefix else {}), "test": protocol_options(image)}


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
