"""Sockets to listen on: addresses as QAPI describes them, and QEMU's words when one cannot be had."""

from __future__ import annotations

import os
import socket
import stat
from errno import EADDRINUSE

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import Any

_LONGEST_PATH = 108  # sizeof(sockaddr_un.sun_path)


class Listener:
    """A listening socket. `path` is the unix socket's file, removed again by `close`, but not by
    `abandon`."""

    def __init__(self, sock: socket.socket, path: str = "") -> None:
        self.socket = sock
        self.path = path
        sock.setblocking(False)

    def close(self) -> None:
        self.abandon()
        if self.path:
            _unlink(self.path)

    def abandon(self) -> None:
        """Listen no more, and leave the file."""
        self.socket.close()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def flattened(address: dict[str, Any]) -> dict[str, Any]:
    """A SocketAddressLegacy ({"type", "data"}) as SocketAddress; one that is flat already stays as it is."""
    members = address.get("data")
    return {"type": address["type"], **members} if isinstance(members, dict) else address


def description(address: dict[str, Any]) -> str:
    """As QEMU names an address: unix:PATH, tcp:HOST:PORT, fd:NUMBER."""
    kind = address["type"]
    if kind == "unix":
        return "unix:" + str(address["path"]).replace("\0", "")
    if kind == "inet":
        host = address["host"]
        return f"tcp:[{host}]:{address['port']}" if ":" in host else f"tcp:{host}:{address['port']}"
    return f"fd:{address['str']}"


def listen(address: dict[str, Any], backlog: int = socket.SOMAXCONN) -> Listener:
    """Listen on a SocketAddress of type unix, inet or fd (one with a name has its `descriptor` beside it).
    Raises QmpError in QEMU's words (util/qemu-sockets.c)."""
    address = flattened(address)
    kind = address["type"]
    if kind == "unix":
        path = ("\0" if address.get("abstract") else "") + address["path"]
        return _listen_unix(path, backlog)
    if kind == "inet":
        return _listen_inet(address["host"], str(address["port"]), int(address.get("to", 0)), backlog)
    if kind == "fd":
        return _listen_fd(address["str"], backlog, address.get("descriptor"))
    raise QmpError(f"socket type '{kind}' is not simulated")


def _check_path(path: str) -> None:
    if len(path.encode()) > _LONGEST_PATH:
        error = QmpError(f"UNIX socket path '{path}' is too long")
        error.hint = f"Path must be less than {_LONGEST_PATH} bytes\n"
        raise error


def _listen_unix(path: str, backlog: int) -> Listener:
    _check_path(path)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise QmpError(f"Failed to create Unix socket: {_reason(error)}") from None
    abstract = path.startswith("\0")
    doing = f"Failed to unlink socket {path}"
    try:
        if not abstract and os.path.lexists(path):
            os.unlink(path)
        doing = f"Failed to bind socket to {path}"
        sock.bind(path)
        doing = "Failed to listen on socket"
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise QmpError(f"{doing}: {_reason(error)}") from None
    return Listener(sock, "" if abstract else path)


def _listen_inet(host: str, port: str, last_port: int, backlog: int) -> Listener:
    """On the first address and port that can be had; `last_port` 0: no port but the given one."""
    problem = OSError(EADDRINUSE, os.strerror(EADDRINUSE))
    created = False
    for family, kind, protocol, _, place in _resolve(host, port, socket.AI_PASSIVE):
        for number in range(place[1], max(last_port, place[1]) + 1):
            try:
                sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            except OSError as error:
                problem = error
                break
            created = True
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((place[0], number, *place[2:]))
                sock.listen(backlog)
            except OSError as error:
                sock.close()
                problem = error
                if error.errno != EADDRINUSE:
                    raise QmpError(f"Failed to bind socket: {_reason(error)}") from None
            else:
                return Listener(sock)
    what = "Failed to find an available port" if created else "Failed to create a socket"
    raise QmpError(f"{what}: {_reason(problem)}")


def _resolve(host: str, port: str, flags: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host or None, port or None, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise QmpError(f"address resolution failed for {host}:{port}: {error.strerror}") from None


def _reason(error: OSError) -> str:
    """The C library's words: Python has words of its own for a path that is too long."""
    return os.strerror(error.errno) if error.errno else str(error)


def connect(address: dict[str, Any]) -> socket.socket:
    """A socket connected to a unix or inet address, non-blocking. Raises QmpError."""
    unix = address["type"] == "unix"
    if unix:
        _check_path(address["path"])
        path = ("\0" if address.get("abstract") else "") + address["path"]
        places = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)]
    else:
        places = _resolve(address["host"], address["port"], 0)
    shown = address["path"] if unix else f"{address['host']}:{address['port']}"
    for family, kind, protocol, _, place in places:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.connect(place)
        except OSError as error:
            sock.close()
            problem = error
        else:
            sock.setblocking(False)
            return sock
    raise QmpError(f"Failed to connect to '{shown}': {_reason(problem)}")


def shell(command: str) -> tuple[socket.socket, Popen[bytes]]:
    """A socket that is a shell's standard input and output, non-blocking, and its process. Raises
    QmpError."""
    from subprocess import Popen  # loads much, and most runs never get here

    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = Popen(["/bin/sh", "-c", command], stdin=theirs.fileno(), stdout=theirs.fileno())
        except OSError as error:
            ours.close()
            raise QmpError(f"Failed to execute child process: {_reason(error)}") from None
    ours.setblocking(False)
    return ours, process


def socket_of_fd(text: str) -> socket.socket:
    """A socket that our parent made and passed on, by its number. Raises QmpError."""
    if not text.lstrip("-").isdigit():
        raise QmpError(f"Unable to parse FD number {text}")
    try:
        sock = socket.socket(fileno=int(text))
    except (OSError, ValueError):
        raise QmpError(f"File descriptor '{text}' is not a socket") from None
    sock.set_inheritable(False)
    return sock


def _listen_fd(text: str, backlog: int, descriptor: int | None) -> Listener:
    if descriptor is not None and not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise QmpError(f"File descriptor '{text}' is not a socket")
    sock = socket_of_fd(text if descriptor is None else str(descriptor))
    try:
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise QmpError(f"Failed to listen on fd socket: {_reason(error)}") from None
    return Listener(sock)
