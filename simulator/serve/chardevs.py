"""Character devices that monitors sit on: what -chardev, -qmp and -monitor describe (chardev/char.c, 7.2)."""

from __future__ import annotations

import os
import socket

from simulator.block.errors import QmpError
from simulator.monitor.chardev_options import KINDS
from simulator.qapi import qemu_opts
from simulator.qapi.truth import TRUE
from simulator.serve import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.versions import Version

Settings = dict[str, str]

_PLAIN = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
_SILENT = (
    "null",
    "ringbuf",
    "memory",
    "vc",
    "testdev",
    "msmouse",
    "wctablet",
    "udp",
    "mux",
    "spicevmc",
    "spiceport",
)
_WAIT_IS_OLD = "'wait' option is deprecated with socket in client connect mode"


class NotADriver(Exception):
    """The short form of a chardev that QEMU cannot make sense of: str() is what it says first, if
    anything."""


class Chardev:
    """One of: `listener` (clients connect, one at a time), `connected` (a client that is there already), or
    descriptors to read and write (stdio, pty, pipes); all None for one that swallows everything. `in_use`
    once a monitor sits on it, `has_client` while somebody is there. `kind` is the backend's, `place` where
    a socket or terminal is, in words."""

    def __init__(self, identifier: str, kind: str, on: str) -> None:
        self.identifier = identifier
        self.kind, self.place, self.has_client = kind, "", False
        self._on = on
        self.listener: network.Listener | None = None
        self.connected: socket.socket | None = None
        self.read_fd: int | None = None
        self.write_fd: int | None = None
        self.terminal = False
        self.in_use = self.is_base = False

    @property
    def filename(self) -> str:
        """What query-chardev tells of it. A client's own address is not looked at."""
        if self.listener is not None:
            gone = "" if self.has_client else "disconnected:"
            return f"{gone}{self.place},server{self._on}"
        return self.place or self.kind

    def close(self) -> None:
        """A socket that clients could connect to goes away."""
        if self.listener is not None:
            self.listener.close()


class Chardevs:
    """All of a program's, in the machine's table `by_id`. `daemonized`: the standard streams are not to be
    had."""

    def __init__(self, by_id: dict[str, Any], version: Version, daemonized: bool = False) -> None:
        self._on = "=on" if version.queries.chardev_switches_say_on else ""
        self._facts = version.command_line
        self.by_id = by_id
        self.daemonized = daemonized
        self._stdio_in_use = False

    def make(self, identifier: str, given: Settings, speaker: str) -> Chardev:
        """Open what the settings describe. With wait=on this returns when a client is there, and before
        it waits it says so on standard error, behind `speaker`. Raises QmpError."""
        backend = given.get("backend")
        if backend is None:
            raise QmpError(f'chardev: "{identifier}" missing backend')
        chardev = Chardev(identifier, backend, self._on)
        if backend == "socket":
            self._open_socket(chardev, given, speaker)
        elif backend == "stdio":
            self._open_stdio(chardev)
        elif backend == "pty":
            _open_pty(chardev)
        elif backend == "pipe":
            _open_pipe(chardev, given)
        elif backend == "file":
            _open_file(chardev, given)
        elif backend not in _SILENT:
            raise QmpError(f"'{backend}' is not a valid char driver name")
        if identifier in self.by_id:
            raise QmpError(f"attempt to add duplicate property '{identifier}' to object (type 'container')")
        self.by_id[identifier] = chardev
        return chardev

    def close(self) -> None:
        """The program ends in order."""
        for chardev in self.by_id.values():
            chardev.close()

    def _open_stdio(self, chardev: Chardev) -> None:
        if self.daemonized:
            raise QmpError("cannot use stdio with -daemonize")
        if self._stdio_in_use:
            raise QmpError("cannot use stdio by multiple character devices")
        self._stdio_in_use = True
        chardev.read_fd, chardev.write_fd = 0, 1
        chardev.terminal = True

    def _open_socket(self, chardev: Chardev, given: Settings, speaker: str) -> None:
        addresses = len([name for name in ("path", "fd", "host") if name in given])
        if addresses > 1 or (not addresses and self._facts.sockets_need_address):
            raise QmpError("None or one of 'path', 'fd' or 'host' option required.")
        if "host" in given and "port" not in given:
            raise QmpError("chardev: socket: no port given")
        if "delay" in given and "nodelay" in given:
            raise QmpError("'delay' and 'nodelay' are mutually exclusive")
        address = _address(given)
        server = given.get("server") in TRUE
        chardev.place = network.description(address) if server else "unix:"
        if not server and "wait" in given and self._facts.misuse_warns:
            os.write(2, f"{speaker}warning: {_WAIT_IS_OLD}\n".encode())
            given = {name: value for name, value in given.items() if name != "wait"}
        _check_socket(given, server)
        if server:
            chardev.listener = network.listen(address, backlog=1)
            if given.get("wait", "on") in TRUE:
                chardev.connected = _first_client(chardev.listener, address, speaker)
                chardev.has_client = True
        elif address["type"] == "fd":
            chardev.connected = network.socket_of_fd(address["str"])
            chardev.connected.setblocking(False)
        else:
            chardev.connected = network.connect(address)


def from_option(text: str) -> qemu_opts.QemuOpts:
    """-chardev BACKEND,id=...,... Raises OptionError."""
    return qemu_opts.parse(text, "backend", KINDS)


def from_legacy(text: str) -> Settings:
    """The short form of -qmp and -monitor: unix:PATH,server=on, tcp:HOST:PORT,..., stdio, pty, null
    (without mux they are the same as behind "mon:"). Raises NotADriver."""
    shown, text = text, text.removeprefix("mon:")
    if text in _PLAIN:
        return {"backend": text}
    kind, _, rest = text.partition(":")
    if kind in ("file", "pipe") and ":" in text:
        return {"backend": kind, "path": rest}
    if text == "vc" or kind == "vc":
        return {"backend": "vc"}
    if kind == "unix" and ":" in text:
        return _more(shown, rest, {"backend": "socket"}, "path")
    if kind in ("tcp", "telnet", "websocket") and ":" in text:
        address, comma, settings = rest.partition(",")
        host, colon, port = address.partition(":")
        if not colon or not port:
            raise NotADriver("")
        known = {"backend": "socket", "host": host, "port": port}
        if kind != "tcp":
            known[kind] = "on"
        return _more(shown, settings, known, None) if comma else known
    raise NotADriver(f"'{text}' is not a valid char driver")


def _more(shown: str, text: str, known: Settings, first_name: str | None) -> Settings:
    try:
        return {**known, **qemu_opts.parse(text, first_name, KINDS).to_dict()}
    except qemu_opts.OptionError as error:
        raise NotADriver(error.desc + error.hint.rstrip("\n")) from None


def _open_pty(chardev: Chardev) -> None:
    master, slave = os.openpty()
    chardev.place = f"pty:{os.ttyname(slave)}"
    label = f" (label {chardev.identifier})" if chardev.identifier else ""
    os.write(2, f"char device redirected to {os.ttyname(slave)}{label}\n".encode())
    # The other side stays open here, so that the line outlives those who use it.
    import tty

    tty.setraw(slave)
    chardev.read_fd = chardev.write_fd = master


def _open_pipe(chardev: Chardev, given: Settings) -> None:
    path = given.get("path")
    if path is None:
        raise QmpError("chardev: pipe: no device path given")
    try:
        chardev.read_fd = os.open(path + ".in", os.O_RDWR | os.O_CLOEXEC)
        chardev.write_fd = os.open(path + ".out", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        try:
            chardev.read_fd = chardev.write_fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise QmpError(f"Could not open '{path}': {error.strerror}") from None


def _open_file(chardev: Chardev, given: Settings) -> None:
    path = given.get("path")
    if path is None:
        raise QmpError("chardev: file: no filename given")
    mode = os.O_APPEND if given.get("append") in TRUE else os.O_TRUNC
    try:
        chardev.write_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
    except OSError as error:
        raise QmpError(f"Could not open '{path}': {error.strerror}") from None


def _address(given: Settings) -> Settings:
    if "path" in given:
        abstract = given.get("abstract") in TRUE
        return {"type": "unix", "path": ("\0" if abstract else "") + given["path"]}
    if "host" in given:
        more = {"to": given["to"]} if "to" in given else {}
        return {"type": "inet", "host": given["host"], "port": given["port"], **more}
    return {"type": "fd", "str": given.get("fd", "")}


def _check_socket(given: Settings, server: bool) -> None:
    if "tls-creds" in given:
        raise QmpError(f"No TLS credentials with id '{given['tls-creds']}'")
    for name in ("telnet", "tn3270", "websocket"):
        if given.get(name) in TRUE:
            raise QmpError(f"'{name}' is not simulated")
    if server and "reconnect" in given:
        raise QmpError("'reconnect' option is incompatible with socket in server listen mode")
    if not server and "wait" in given:
        raise QmpError("'wait' option is incompatible with socket in client connect mode")


def _first_client(listener: network.Listener, address: Settings, speaker: str) -> socket.socket:
    shown = network.description(address)
    os.write(2, f"{speaker}info: QEMU waiting for connection on: disconnected:{shown},server=on\n".encode())
    listener.socket.setblocking(True)
    client, _ = listener.socket.accept()
    listener.socket.setblocking(False)
    client.setblocking(False)
    return client
