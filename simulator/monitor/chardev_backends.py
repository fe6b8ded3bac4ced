"""What character devices of a running machine stand on (chardev/char-*.c, 7.2). Nobody talks through one:
the monitors' own are in serve/chardevs.py."""

from __future__ import annotations

from os import strerror

from simulator.block.errors import QmpError
from simulator.monitor.commands.descriptors import take_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from simulator.machine import Machine

    Settings = dict[str, Any]

    class Closable(Protocol):
        def close(self) -> None: ...


_SILENT = ("braille", "msmouse", "null", "testdev", "wctablet")
_RING = ("ringbuf", "memory")
_RING_BYTES = 65536


class Chardev:
    """`kind` is the backend's, `filename` what queries tell of it. `in_use` once something sits on it."""

    def __init__(self, kind: str, filename: str = "", held: tuple[Closable, ...] = ()) -> None:
        self.kind = kind
        self.filename = filename or kind
        self.in_use = False
        self.is_base = False  # somebody sits on it who is not there yet
        self._held = held

    def close(self) -> None:
        for each in self._held:
            each.close()


class RingBuffer(Chardev):
    """Keeps the last so many bytes until they are read."""

    def __init__(self, kind: str, size: int) -> None:
        super().__init__(kind)
        self._size, self._kept = size, b""

    def write(self, payload: bytes) -> None:
        self._kept = (self._kept + payload)[-self._size :]

    def read(self, most: int) -> bytes:
        read, self._kept = self._kept[:most], self._kept[most:]
        return read


def make(machine: Machine, kind: str, settings: Settings) -> Chardev:
    """`settings` as QMP has them. Raises QmpError."""
    if kind in _SILENT:
        return Chardev(kind)
    if kind in _RING:
        size = settings.get("size", _RING_BYTES)
        if size & (size - 1) or size <= 0:
            raise QmpError("size of ringbuf chardev must be power of two")
        return RingBuffer(kind, size)
    maker = _MAKERS.get(kind)
    if maker is None:
        raise QmpError(f"a chardev of type '{kind}' is not simulated")
    return maker(machine, settings)


def _open(machine: Machine, path: str, **how: bool) -> Any:
    try:
        return machine.host.open(path, **how)
    except OSError as error:
        raise QmpError(f"Could not open '{path}': {strerror(error.errno or 0)}") from None


def _file(machine: Machine, settings: Settings) -> Chardev:
    file = _open(machine, settings["out"], create=True)
    if not settings.get("append", False):
        file.truncate(0)
    file.close()
    return Chardev("file")


def _pipe(machine: Machine, settings: Settings) -> Chardev:
    """Two of them, one for each way, or else one file for both."""
    path, held = settings["device"], []
    try:
        held += [machine.host.open(path + ".in")]
        held += [machine.host.open(path + ".out")]
    except OSError:
        for each in held:
            each.close()
        held = [_open(machine, path)]
    return Chardev("pipe", held=tuple(held))


def _pty(machine: Machine, settings: Settings) -> Chardev:
    try:
        terminal = machine.host.open_terminal()
    except OSError as error:
        raise QmpError(f"Failed to create PTY: {strerror(error.errno or 0)}") from None
    return Chardev("pty", f"pty:{terminal.name}", (terminal,))


class _Seat:
    """Somebody's place on a device, who has it to himself."""

    def __init__(self, chardev: Chardev) -> None:
        self._chardev = chardev
        chardev.is_base = True

    def close(self) -> None:
        self._chardev.is_base = False


def _mux(machine: Machine, settings: Settings) -> Chardev:
    """chardev/char-mux.c, qemu_chr_open_mux."""
    label = settings["chardev"]
    base = machine.chardevs.get(label)
    if base is None:
        raise QmpError(f"mux: base chardev {label} not found")
    if base.in_use or base.is_base:
        raise QmpError(machine.version.command_line.chardev_taken.format(id=label))
    return Chardev("mux", held=(_Seat(base),))


def _udp(machine: Machine, settings: Settings) -> Chardev:
    """util/qemu-sockets.c:489, 1258. Nothing is sent, so no socket is made."""
    addresses = [_flat(settings[name]) for name in ("remote", "local") if name in settings]
    if addresses[0]["type"] != "inet":
        raise QmpError("socket type unsupported for datagram")
    if not addresses[0]["port"]:
        raise QmpError("remote port not specified")
    for address in addresses:
        machine.host.check_listen(address)
    return Chardev("udp")


def _flat(address: Settings) -> Settings:
    return {"type": address["type"], **address["data"]}


def _socket(machine: Machine, settings: Settings) -> Chardev:
    listens, address = settings.get("server", True), _flat(settings["addr"])
    if "tls-creds" in settings:
        _check_credentials(machine, settings["tls-creds"])
    _check_socket(settings, address, listens)
    if address["type"] == "vsock" or (address["type"] == "fd" and not listens):
        if address["type"] == "fd":
            take_named(machine, address["str"])
        raise QmpError(f"a chardev on a socket of type '{address['type']}' is not simulated")
    shown = described(machine, settings, address, listens)
    if not listens:
        return _connected(machine, settings, address, shown)
    if settings.get("wait", False):
        raise QmpError("a chardev that waits for its client is not simulated")
    if address["type"] == "fd":
        address["descriptor"] = take_named(machine, address["str"])
    if machine.listen is None:
        machine.host.check_listen(address)
        return Chardev("socket", f"disconnected:{shown}")
    return Chardev("socket", f"disconnected:{shown}", (machine.listen(address),))


def _connected(machine: Machine, settings: Settings, address: Settings, shown: str) -> Chardev:
    """One that tries again at times has not begun to when the command returns."""
    if settings.get("reconnect", 0) or settings.get("reconnect-ms", 0):
        return Chardev("socket", f"disconnected:{shown}")
    stream = machine.host.connect(address, lambda payload: None)
    if address["type"] == "unix":
        shown = "unix:" + (address["path"] if machine.version.queries.chardev_shows_peer else "")
    return Chardev("socket", shown, (stream,))


def _check_credentials(machine: Machine, identifier: str) -> None:
    found = machine.objects.get(identifier)
    if found is None:
        raise QmpError(f"No TLS credentials with id '{identifier}'")
    if not found.type_name.startswith("tls-creds-"):
        raise QmpError(f"Object with id '{identifier}' is not TLS credentials")


def _check_socket(settings: Settings, address: Settings, listens: bool) -> None:
    """chardev/char-socket.c:1242."""
    kind = address["type"]
    again = next((name for name in ("reconnect", "reconnect-ms") if name in settings), "")
    if "reconnect" in settings and "reconnect-ms" in settings:
        raise QmpError("'reconnect' and 'reconnect-ms' are mutually exclusive")
    if kind == "fd" and again:
        raise QmpError(f"'{again}' option is incompatible with 'fd' address type")
    if "tls-creds" in settings and kind == "fd" and not settings.get("server", False):
        raise QmpError("'tls_creds' option is incompatible with 'fd' address type as client")
    if "tls-creds" in settings and kind in ("unix", "vsock"):
        raise QmpError(f"'tls_creds' option is incompatible with '{kind}' address type")
    if "tls-authz" in settings and "tls-creds" not in settings:
        raise QmpError("'tls_authz' option requires 'tls_creds' option")
    if listens and again:
        raise QmpError(f"'{again}' option is incompatible with socket in server listen mode")
    if not listens and settings.get("websocket", False):
        raise QmpError("Websocket client is not implemented")
    if not listens and "wait" in settings:
        raise QmpError("'wait' option is incompatible with socket in client connect mode")


def described(machine: Machine, settings: Settings, address: Settings, listens: bool) -> str:
    """A socket as queries tell of it (chardev/char-socket.c:398)."""
    on = "=on" if machine.version.queries.chardev_switches_say_on else ""
    server = f",server{on}" if listens else ""
    if address["type"] == "unix":
        abstract = f",abstract{on}" if address.get("abstract", False) else ""
        tight = f",tight{on}" if abstract and address.get("tight", False) else ""
        return f"unix:{address['path']}{abstract}{tight}{server}"
    if address["type"] == "inet":
        spoken = {"telnet": "telnet", "tn3270": "tn3270", "websocket": "websocket"}
        protocol = next((word for name, word in spoken.items() if settings.get(name, False)), "tcp")
        return f"{protocol}:{address['host']}:{address['port']}{server}"
    return f"fd:{address['str']}{server}"


_MAKERS = {"file": _file, "mux": _mux, "pipe": _pipe, "pty": _pty, "socket": _socket, "udp": _udp}
