"""Character devices that monitors sit on: what -chardev, -qmp and -monitor describe (chardev/char.c, 7.2)."""

from __future__ import annotations

import os
import socket

from simulator.block.errors import QmpError
from simulator.qapi import qemu_opts
from simulator.serve import network


class Chardev:
    """One of: `listener` (clients connect, one at a time), `connected` (we connected), or descriptors to read and
    write (stdio, pty, pipes); all None for null, which swallows everything. `wait`: the program does not go on
    before the first client is there."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier
        self.listener: network.Listener | None = None
        self.connected: socket.socket | None = None
        self.read_fd: int | None = None
        self.write_fd: int | None = None
        self.wait = False


def from_option(text: str) -> Chardev:
    """-chardev BACKEND,id=...,... Raises QmpError."""
    try:
        opts = qemu_opts.parse(text, "backend")
    except qemu_opts.OptionError as error:
        raise QmpError(error.desc) from None
    given = opts.to_dict()
    if "id" not in given:
        raise QmpError("chardev: no id specified")
    return _make(given["id"], given)


def from_legacy(text: str, identifier: str) -> Chardev:
    """The short form of -qmp and -monitor: unix:PATH,server=on, tcp:HOST:PORT,..., stdio, pty, null. Raises QmpError."""
    head, comma, rest = text.partition(",")
    given: dict[str, str] = {}
    if comma:
        try:
            given = qemu_opts.parse(rest).to_dict()
        except qemu_opts.OptionError as error:
            raise QmpError(error.desc) from None
    if head.startswith("unix:"):
        given.update(backend="socket", path=head[5:])
    elif head.startswith("tcp:"):
        host, _, port = head[4:].rpartition(":")
        given.update(backend="socket", host=host, port=port)
    elif head in ("stdio", "pty", "null"):
        given["backend"] = head
    elif head.startswith("chardev:"):
        raise QmpError(f'chardev "{head[8:]}" not found')
    else:
        raise QmpError(f"'{head}' is not a valid char driver")
    return _make(identifier, given)


def _make(identifier: str, given: dict[str, str]) -> Chardev:
    chardev = Chardev(identifier)
    backend = given.get("backend", "")
    if backend == "socket":
        _open_socket(chardev, given)
    elif backend == "stdio":
        chardev.read_fd, chardev.write_fd = 0, 1
    elif backend == "pty":
        master, slave = os.openpty()
        os.write(2, f"char device redirected to {os.ttyname(slave)} (label {identifier})\n".encode())
        chardev.read_fd = chardev.write_fd = master
    elif backend == "file":
        try:
            chardev.write_fd = os.open(given.get("path", ""), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise QmpError(f"Could not open '{given.get('path', '')}': {error.strerror}") from None
    elif backend not in ("null", "ringbuf"):
        raise QmpError(f"'{backend}' is not a valid char driver name")
    return chardev


def _open_socket(chardev: Chardev, given: dict[str, str]) -> None:
    if "path" in given:
        address = {"type": "unix", "path": given["path"]}
    elif "host" in given or "port" in given:
        address = {"type": "inet", "host": given.get("host", ""), "port": given.get("port", "0")}
    else:
        address = {"type": "fd", "str": given.get("fd", "")}
    if given.get("server", "off") == "on":
        chardev.listener = network.listen(address, backlog=1)
        chardev.wait = given.get("wait", "on") == "on"
    elif address["type"] == "fd":
        chardev.connected = network.listener_of_fd(address["str"]).socket
    else:
        chardev.connected = _connect(address)


def _connect(address: dict[str, str]) -> socket.socket:
    unix = address["type"] == "unix"
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    place: str | tuple[str, int] = address["path"] if unix else (address["host"], int(address["port"] or 0))
    try:
        sock.connect(place)
    except OSError as error:
        sock.close()
        shown = address.get("path") or f"{address['host']}:{address['port']}"
        raise QmpError(f"Failed to connect to '{shown}': {error.strerror}") from None
    sock.setblocking(False)
    return sock
