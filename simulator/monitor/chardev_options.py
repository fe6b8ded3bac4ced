"""The options of -chardev, as QMP has them (chardev/char.c:599 and each backend's own parser, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.qapi.qemu_opts import QemuOpts

    Settings = dict[str, Any]

_BOOLEANS = (
    "abstract append clipboard delay ipv4 ipv6 logappend mouse mux nodelay server signal telnet tight "
    "tn3270 wait websocket"
)
_STRINGS = "backend chardev fd host localaddr localport logfile name path port tls-authz tls-creds"
# What a chardev may be told, and the kind of each value (qemu_chardev_opts).
KINDS = {
    **dict.fromkeys(_BOOLEANS.split(), "bool"),
    **dict.fromkeys(_STRINGS.split(), "str"),
    **dict.fromkeys(["cols", "debug", "height", "reconnect", "reconnect-ms", "rows", "to", "width"], "num"),
    "size": "size",
}
_NAMES = (
    "braille",
    "file",
    "memory",
    "msmouse",
    "mux",
    "null",
    "parallel",
    "pipe",
    "pty",
    "ringbuf",
    "serial",
    "socket",
    "stdio",
    "testdev",
    "udp",
    "vc",
    "wctablet",
)
_UNPARSED = ("braille", "msmouse", "testdev", "wctablet")
_PATH = {
    "file": ("out", "file: no filename given"),
    "pipe": ("device", "pipe: no device path given"),
    "parallel": ("device", "parallel: no device path given"),
    "serial": ("device", "serial/tty: no device path given"),
}


def backend_of(opts: QemuOpts) -> Settings:
    """What chardev-change has as `backend`: the type that the parser sets, which is null for a kind without a
    parser, and ringbuf for memory. Raises QmpError."""
    kind = kind_of(opts)
    data: Settings = {}
    if kind in _PATH:
        member, problem = _PATH[kind]
        data[member] = opts.get("path")
        if data[member] is None:
            raise QmpError(f"chardev: {problem}")
        if kind == "file":
            data["append"] = opts.get_bool("append", False)
    elif kind == "socket":
        data = _socket(opts)
    elif kind == "udp":
        data = _udp(opts)
    elif kind == "mux":
        data["chardev"] = opts.get("chardev")
        if data["chardev"] is None:
            raise QmpError("chardev: mux: no chardev given")
    elif kind in ("memory", "ringbuf") and opts.get_size("size", 0):
        data["size"] = opts.get_size("size", 0)
    return {"type": "null" if kind in _UNPARSED else {"memory": "ringbuf"}.get(kind, kind), "data": data}


def kind_of(opts: QemuOpts) -> str:
    """The kind that chardev-add makes. Raises QmpError."""
    kind = opts.get("backend")
    if kind is None:
        raise QmpError(f'chardev: "{opts.id or "(null)"}" missing backend')
    kind = {"tty": "serial", "parport": "parallel"}.get(kind, kind)
    if kind not in _NAMES:
        raise QmpError(f"'{kind}' is not a valid char driver name")
    return kind


def _socket(opts: QemuOpts) -> Settings:
    if sum(opts.get(name) is not None for name in ("path", "fd", "host")) > 1:
        raise QmpError("None or one of 'path', 'fd' or 'host' option required.")
    if opts.get("host") is not None and opts.get("port") is None:
        raise QmpError("chardev: socket: no port given")
    if opts.get("delay") is not None and opts.get("nodelay") is not None:
        raise QmpError("'delay' and 'nodelay' are mutually exclusive")
    data: Settings = {"addr": _address(opts), "server": opts.get_bool("server", False)}
    for name in ("telnet", "tn3270", "websocket"):
        data[name] = opts.get_bool(name, False)
    if opts.get("wait") is not None or data["server"]:
        data["wait"] = opts.get_bool("wait", True)
    again = [name for name in ("reconnect", "reconnect-ms") if opts.get(name) is not None]
    data.update((name, opts.get_number(name, 0)) for name in again)
    data.update((name, opts.get(name)) for name in ("tls-creds", "tls-authz") if opts.get(name) is not None)
    return data


def _address(opts: QemuOpts) -> Settings:
    path, host = opts.get("path"), opts.get("host")
    if path is not None:
        is_abstract, is_tight = opts.get_bool("abstract", False), opts.get_bool("tight", True)
        return {"type": "unix", "data": {"path": path, "abstract": is_abstract, "tight": is_tight}}
    if host is not None:
        members: Settings = {"host": host, "port": opts.get("port")}
        if opts.get("to") is not None:
            members["to"] = opts.get_number("to", 0)
        return {"type": "inet", "data": members}
    return {"type": "fd", "data": {"str": opts.get("fd") or ""}}


def _udp(opts: QemuOpts) -> Settings:
    if not opts.get("port"):
        raise QmpError("chardev: udp: remote port not specified")
    remote = {"host": opts.get("host") or "localhost", "port": opts.get("port")}
    data: Settings = {"remote": {"type": "inet", "data": remote}}
    if opts.get("localaddr") or opts.get("localport"):
        local = {"host": opts.get("localaddr") or "", "port": opts.get("localport") or "0"}
        data["local"] = {"type": "inet", "data": local}
    return data
