"""Sockets to listen on: addresses as QAPI describes them, and QEMU's words when one cannot be had."""

from __future__ import annotations

import os
import socket
from typing import Any

from simulator.block.errors import QmpError


class Listener:
    """A listening socket. `path` is the unix socket's file, removed again by `close`."""

    def __init__(self, sock: socket.socket, path: str = "") -> None:
        self.socket = sock
        self.path = path
        sock.setblocking(False)

    def close(self) -> None:
        self.socket.close()
        if self.path:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass


def flattened(address: dict[str, Any]) -> dict[str, Any]:
    """A SocketAddressLegacy ({"type", "data"}) as SocketAddress; one that is flat already stays as it is."""
    members = address.get("data")
    return {"type": address["type"], **members} if isinstance(members, dict) else address


def listen(address: dict[str, Any], backlog: int = 64) -> Listener:
    """Listen on a SocketAddress of type unix, inet or fd. Raises QmpError in QEMU's words (util/qemu-sockets.c)."""
    address = flattened(address)
    kind = address["type"]
    if kind == "unix":
        return _listen_unix(address["path"], backlog)
    if kind == "inet":
        return _listen_inet(address["host"], address["port"], backlog)
    if kind == "fd":
        return listener_of_fd(address["str"])
    raise QmpError(f"socket type '{kind}' is not supported")


def _listen_unix(path: str, backlog: int) -> Listener:
    if len(path.encode()) > 108:
        raise QmpError(f"UNIX socket path '{path}' is too long")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if os.path.exists(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise QmpError(f"Failed to bind socket to {path}: {error.strerror}") from None
    return Listener(sock, path)


def _listen_inet(host: str, port: str, backlog: int) -> Listener:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise QmpError(f"address resolution failed for {host}:{port}: {error.strerror}") from None
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise QmpError(f"Failed to find an available port: {error.strerror}") from None
    return Listener(sock)


def listener_of_fd(text: str) -> Listener:
    """A listening socket that our parent made and passed on, by its number."""
    if not text.isdigit():
        raise QmpError(f"Unable to parse FD number {text}")
    try:
        sock = socket.socket(fileno=int(text))
    except OSError as error:
        raise QmpError(f"File descriptor '{text}' is not a socket: {error.strerror}") from None
    sock.set_inheritable(False)
    return Listener(sock)
