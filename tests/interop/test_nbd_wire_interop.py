# ruff: noqa: E501  tables of bytes read better in long lines
"""simulator.wire.nbd against real peers: byte for byte beside qemu-nbd, and with real clients and servers."""

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.messages import ConnectionEnded, ExportInfo, Ready, Reply, Request
from simulator.wire.nbd.server import ServerConnection

SIZE = 1 << 20
KIB = 1024
RUNS = [
    (0, 64 * KIB, None),
    (64 * KIB, 192 * KIB, 0x11),
    (192 * KIB, 512 * KIB, None),
    (512 * KIB, 576 * KIB, 0x22),
    (576 * KIB, SIZE, None),
]
FLAGS = (
    nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_FUA | nbd.FLAG_SEND_CACHE | nbd.FLAG_CAN_MULTI_CONN
    | nbd.FLAG_SEND_TRIM | nbd.FLAG_SEND_WRITE_ZEROES | nbd.FLAG_SEND_FAST_ZERO
)  # fmt: skip
READ_ONLY = (
    FLAGS & ~(nbd.FLAG_SEND_TRIM | nbd.FLAG_SEND_WRITE_ZEROES | nbd.FLAG_SEND_FAST_ZERO) | nbd.FLAG_READ_ONLY
)
DEADLINE_S = 10


def tool(name, *arguments, **options):
    assert shutil.which(name), f"{name} is not installed: apt install qemu-utils libnbd-bin nbdkit"
    done = subprocess.run([name, *arguments], capture_output=True, timeout=30, **options)
    assert done.returncode == 0, (name, arguments, done.stderr.decode())
    return done.stdout


def connect(path):
    """The socket's file is there a moment before anybody listens on it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on {path}"
            time.sleep(0.005)
        else:
            return connection


def start(argv, socket_path):
    assert shutil.which(argv[0]), f"{argv[0]} is not installed: apt install qemu-utils nbdkit"
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + DEADLINE_S
    while not socket_path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"{argv[0]} did not open {socket_path}"
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "d.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE))
    writes = [f"write -P {value:#x} {start} {end - start}" for start, end, value in RUNS if value is not None]
    tool("qemu-io", "-f", "qcow2", *[word for write in writes for word in ("-c", write)], path)
    tool("qemu-img", "bitmap", "--add", path, "b0")
    tool("qemu-img", "bitmap", "--add", path, "b1")
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 0x22 512k 64k", path)
    return path


@contextmanager
def running_qemu_nbd(image, path, read_only):
    argv = [
        "qemu-nbd",
        "-k",
        path,
        "-f",
        "qcow2",
        "-t",
        "-e",
        "20",
        "-x",
        "n0",
        "-D",
        "desc",
        "-A",
        "-B",
        "b0",
    ]
    # A writable export may not share its image, so each gets its own copy.
    own = path.parent / "d.qcow2"
    shutil.copy(image, own)
    process = start([*argv, *(["-r"] if read_only else []), own], path)
    contexts = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0")
    try:
        yield path, ExportInfo("n0", SIZE, READ_ONLY if read_only else FLAGS, "desc", contexts=contexts)
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module", params=["writable", "read-only"])
def qemu_nbd(request, image, tmp_path_factory):
    """(path of the socket, the same export for our server)."""
    path = tmp_path_factory.mktemp("qemu-nbd") / "s"
    with running_qemu_nbd(image, path, request.param == "read-only") as server:
        yield server


# -- a disk in memory behind our server


class Memory:
    def __init__(self, info, runs=RUNS):
        self.info, self.runs = info, runs
        self.content = bytearray(info.size)
        for start, end, value in runs:
            if value is not None:
                self.content[start:end] = bytes([value]) * (end - start)

    def pieces(self, request):
        for start, end, value in self.runs:
            low, high = max(start, request.offset), min(end, request.offset + request.length)
            if low < high:
                yield high - low, value, bytes(self.content[low:high])

    def serve(self, server, request):
        if request.kind == nbd.CMD_READ:
            server.reply_read(
                request, [(n, None if value is None else data) for n, value, data in self.pieces(request)]
            )
        elif request.kind == nbd.CMD_BLOCK_STATUS:
            kinds = {0: (3, 0), 1: (0, 1)}
            statuses = {}
            for context_id in server.contexts.values():
                hole, data = kinds.get(context_id, (0, 1))
                written = (0x22,) if context_id > 1 else (0x11, 0x22)
                statuses[context_id] = [
                    (n, data if value in written else hole) for n, value, _ in self.pieces(request)
                ]
            server.reply_block_status(request, statuses)
        elif request.flags & nbd.CMD_FLAG_FAST_ZERO:
            server.reply_error(request, 95)
        else:
            if request.kind == nbd.CMD_WRITE:
                self.content[request.offset : request.offset + request.length] = request.payload
                self.runs = [(0, self.info.size, 1)]  # no holes any more
            elif request.kind == nbd.CMD_WRITE_ZEROES:
                self.content[request.offset : request.offset + request.length] = bytes(request.length)
            server.reply_done(request)

    def new_server(self):
        return ServerConnection(
            lambda name: self.info if name == self.info.name else None, lambda: [self.info]
        )

    def converse(self, steps, chunk_bytes=1 << 30):
        """What our server sends after each step."""
        server = self.new_server()
        answers = []
        for step in steps:
            for start_ in range(0, len(step), chunk_bytes):
                for event in server.receive_data(step[start_ : start_ + chunk_bytes]):
                    if type(event) is Request:
                        self.serve(server, event)
            answers.append(b"".join(server.take_output()))
        return answers


# -- the same bytes to qemu-nbd and to our server

U16, U32 = struct.Struct(">H").pack, struct.Struct(">L").pack


def option(code, payload=b"", length=None):
    return b"IHAVEOPT" + U32(code) + U32(len(payload) if length is None else length) + payload


def text(value):
    return U32(len(value)) + value


def go(name=b"n0", *wanted, code=nbd.OPT_GO):
    return option(code, text(name) + U16(len(wanted)) + b"".join(map(U16, wanted)))


def context(code, name, *queries):
    return option(code, text(name) + U32(len(queries)) + b"".join(map(text, queries)))


def command(kind, offset=0, length=0, flags=0, cookie=7, magic=nbd.REQUEST_MAGIC):
    return struct.pack(">LHHQQL", magic, flags, kind, cookie, offset, length)


FIXED = U32(3)
STRUCTURED = option(nbd.OPT_STRUCTURED_REPLY)
SIMPLE_SESSION = FIXED + go()
SESSION = FIXED + STRUCTURED + go()
ALL = [b"base:allocation", b"qemu:allocation-depth", b"qemu:dirty-bitmap:b0"]
CONTEXT_SESSION = FIXED + STRUCTURED + context(10, b"n0", *ALL) + go()
ABORT = option(nbd.OPT_ABORT)

HANDSHAKES = {
    "silence": b"",
    "half the flags": b"\0\0",
    "unknown client flags": U32(4),
    "all client flags": U32(0xFFFFFFFF),
    "no flags, list": U32(0) + option(3),
    "no flags, abort": U32(0) + ABORT,
    "no flags, export name": U32(0) + option(1, b"n0"),
    "no zeroes only, export name": U32(2) + option(1, b"n0"),
    "export name": FIXED + option(1, b"n0"),
    "export name with zeroes": U32(1) + option(1, b"n0"),
    "export name with a NUL": FIXED + option(1, b"n0\0zork"),
    "export name, structured": FIXED + STRUCTURED + option(1, b"n0"),
    "export name unknown": FIXED + option(1, b"zork"),
    "export name empty": FIXED + option(1),
    "export name too long": FIXED + option(1, b"", 4097),
    "export name longest": FIXED + option(1, b"x" * 4096),
    "bad magic": FIXED + b"GET / HTTP/1.1\r\n\r\n",
    "bad magic, short": FIXED + b"IHAVEOPX",
    "option of 32 MiB and one": FIXED + option(99, b"", (32 << 20) + 1),
    "option of 4 GiB": FIXED + option(3, b"", 0xFFFFFFFF),
    "list": FIXED + option(3) + ABORT,
    "list with payload": FIXED + option(3, b"abc") + option(3) + ABORT,
    "starttls": FIXED + option(5) + option(5, b"x") + ABORT,
    "abort with payload": FIXED + option(2, b"abc"),
    "unknown options": FIXED + option(4) + option(11) + option(99, b"payload") + option(0) + option(0xFFFFFFFF) + ABORT,
    "structured twice": FIXED + STRUCTURED + STRUCTURED + option(8, b"x") + ABORT,
    "info": FIXED + go(b"n0", code=6) + go(b"n0", 0, 1, 2, 3, code=6) + go(b"n0", 1, 1, 9, code=6) + ABORT,
    "info unknown": FIXED + go(b"zork", code=6) + go(b"x" * 79, code=6) + go(b"x" * 80, code=6) + go(b"x" * 81, code=6) + ABORT,
    "info not UTF-8": FIXED + go(b"\xff\xc3%s{name}\n", code=6) + ABORT,
    "info name 4096": FIXED + go(b"x" * 4096, code=6) + go(b"x" * 4097, code=6) + ABORT,
    "info name NUL": FIXED + go(b"n0\0", code=6) + ABORT,
    "info short": FIXED + option(6) + option(6, b"\0") + option(6, text(b"n0")) + option(6, text(b"n0") + b"\0") + ABORT,
    "info missing requests": FIXED + option(6, text(b"n0") + U16(2) + U16(3)) + ABORT,
    "info too many": FIXED + option(6, text(b"n0") + U16(0) + b"x") + ABORT,
    "info name too long inside": FIXED + option(6, U32(5000) + b"n0") + option(6, U32(100) + b"n0") + ABORT,
    "go": FIXED + go(),
    "go with all": FIXED + STRUCTURED + go(b"n0", 0, 1, 2, 3),
    "go unknown, then known": FIXED + go(b"zork") + go(b"") + go(),
    "set context without structured": FIXED + context(10, b"n0", *ALL) + go(),
    "list contexts": FIXED + context(9, b"n0") + STRUCTURED + context(9, b"n0") + context(9, b"zork") + context(9, b"") + ABORT,
    "list queries": FIXED
    + b"".join(context(9, b"n0", query) for query in [*ALL, b"", b"base:", b"qemu:", b"qemu:dirty-bitmap:", b"base:zork", b"qemu:zork"])
    + ABORT,
    "list queries 2": FIXED
    + b"".join(context(9, b"n0", query) for query in [b"qemu:dirty-bitmap:zork", b"qemu:dirty-bitmap:b", b"zork:", b"base", b"x" * 4096, b"BASE:"])
    + context(9, b"n0", b"base:", b"qemu:allocation-depth", b"base:allocation") + context(9, b"n0", b"qemu:", b"zork:") + ABORT,
    "set queries": FIXED + STRUCTURED
    + b"".join(context(10, b"n0", query) for query in [*ALL, b"", b"base:", b"qemu:", b"qemu:dirty-bitmap:", b"base:zork", b"qemu:dirty-bitmap:b1"])
    + context(10, b"n0", *reversed(ALL)) + context(10, b"n0") + context(10, b"zork", *ALL) + ABORT,
    "context query too long": FIXED + STRUCTURED + context(9, b"n0", b"x" * 5000) + context(10, b"n0", b"x" * 4097, b"base:allocation") + ABORT,
    "context lengths": FIXED + STRUCTURED + option(9) + option(9, text(b"n0")) + option(9, text(b"n0") + U32(1)) + option(9, text(b"n0") + U32(2) + text(b"base:"))
    + option(9, text(b"n0") + U32(1) + U32(9000) + b"x") + option(10, text(b"n0") + U32(1) + U32(4) + b"x") + option(9, text(b"n\0")) + ABORT,
    "context NUL": FIXED + STRUCTURED + context(9, b"n0", b"base:\0") + context(10, b"zork\0", b"base:") + ABORT,
    "context with more behind": FIXED + STRUCTURED + option(9, text(b"n0") + U32(0) + b"x") + option(3),
    "context with much behind": FIXED + STRUCTURED + option(10, text(b"n0") + U32(1) + text(b"base:allocation") + b"IHAVEOPX" * 2) + go(),
}  # fmt: skip

KINDS = range(12)
TRANSMISSIONS = {
    "reads": [SESSION, command(0, 0, 4096), command(0, 60 * KIB, 8192, cookie=1 << 63), command(0, 0, SIZE), command(0, 5, 1)],
    "reads, simple": [SIMPLE_SESSION, command(0, 0, 4096), command(0, 60 * KIB, 8192), command(0, SIZE - 3, 3)],
    "read df": [SESSION, command(0, 0, SIZE, nbd.CMD_FLAG_DF), command(0, 0, 512, nbd.CMD_FLAG_DF | nbd.CMD_FLAG_FUA)],
    "read df, simple": [SIMPLE_SESSION, command(0, 0, 512, nbd.CMD_FLAG_DF), command(0, 0, 512, nbd.CMD_FLAG_FUA)],
    "empty reads": [SESSION, command(0, 0, 0), command(0, SIZE, 0), command(0, 5, 0, nbd.CMD_FLAG_DF)],
    "past the end": [SESSION, *(command(kind, SIZE - 1, 2) + (b"xx" if kind == 1 else b"") for kind in KINDS if kind != 2)],
    "past the end, simple": [SIMPLE_SESSION, *(command(kind, SIZE - 1, 2) + (b"xx" if kind == 1 else b"") for kind in KINDS if kind != 2)],
    "far past the end": [SESSION, command(0, (1 << 64) - 1, 1), command(4, 1 << 63, 0xFFFFFFFF), command(6, SIZE + 1, 0), command(3, SIZE + 1, 0)],
    "too long": [SESSION, command(0, 0, (32 << 20) + 1), command(5, 0, 0xFFFFFFFF), command(0, 0, 32 << 20), command(0, 0, 512)],
    "write too long": [SESSION, command(1, 0, (32 << 20) + 1), command(0, 0, 512)],
    "write too long, simple": [SIMPLE_SESSION, command(1, 0, (32 << 20) + 1), command(0, 0, 512)],
    "all flags": [SESSION, *(command(kind, 0, 512, 1 << bit) + (b"x" * 512 if kind == 1 else b"") for kind in (0, 3, 7) for bit in range(16))],
    "all flags, simple": [SIMPLE_SESSION, *(command(kind, 0, 512, 1 << bit) for kind in (0, 3, 7) for bit in range(16))],
    "unknown commands": [SESSION, *(command(kind, 0, 512) for kind in (8, 9, 255, 0xFFFF)), command(8, 0, 512, 2)],
    "flush": [SESSION, command(3), command(3, 0, 512), command(3, 5, 5)],
    "cache": [SESSION, command(5, 64 * KIB, 65536), command(5, 0, 0), command(5, 64 * KIB, 512, 1), command(5, 64 * KIB, 512, 2)],
    "bad request magic": [SESSION, command(0, 0, 512), command(0, 0, 512, magic=0x12345678), command(0, 0, 512)],
    "bad request magic, simple": [SIMPLE_SESSION, b"x" * 28, command(0, 0, 512)],
    "half a request": [SESSION, command(0, 0, 512)[:27]],
    "half a write": [SESSION, command(1, 0, 512) + b"x" * 511],
    "disconnect": [SESSION, command(2, 5, 5, 0xFFFF), command(0, 0, 512)],
    "status not negotiated": [SESSION, command(7, 0, 512), command(7, 0, 0), command(7, SIZE, 0)],
    "status": [CONTEXT_SESSION, command(7, 0, SIZE), command(7, 100 * KIB, 500 * KIB), command(7, 0, SIZE, nbd.CMD_FLAG_REQ_ONE), command(7, 0, 0)],
    "status of one": [FIXED + STRUCTURED + context(10, b"n0", b"qemu:dirty-bitmap:b0") + go(), command(7, 0, SIZE)],
    "status after a refused set": [FIXED + STRUCTURED + context(10, b"n0", ALL[0]) + context(10, b"zork") + go(), command(7, 0, SIZE)],
    "status after a broken set": [FIXED + STRUCTURED + context(10, b"n0", ALL[0]) + option(10, text(b"n0") + U32(1)) + go(), command(7, 0, SIZE)],
    "status by export name": [FIXED + STRUCTURED + context(10, b"n0", ALL[0]) + option(1, b"n0"), command(7, 0, SIZE)],
}  # fmt: skip


def ask_qemu_nbd(path, steps, expected):
    """What qemu-nbd sends after each step, and until it closes. It answers requests in any order, so each step waits
    for as many bytes as our server sends."""
    answers = []
    with connect(path) as connection:
        try:
            for step, wanted in zip(steps, expected, strict=True):
                received = bytearray()
                answers.append(received)
                connection.sendall(step)
                while len(received) < len(wanted) and (piece := connection.recv(1 << 20)):
                    received += piece
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 20):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # it closed with input unread
    return answers + [b""] * (len(steps) - len(answers))


def compare_with_qemu(qemu_nbd, steps, chunk_sizes=(1 << 30, 1, 13)):
    path, info = qemu_nbd
    ours = [Memory(info).converse(steps, chunk_bytes) for chunk_bytes in chunk_sizes]
    theirs = ask_qemu_nbd(path, steps, ours[0])
    for got in ours:
        assert got == theirs


@pytest.mark.parametrize("name", HANDSHAKES)
def test_handshakes(qemu_nbd, name):
    compare_with_qemu(qemu_nbd, [HANDSHAKES[name]])


@pytest.mark.parametrize("name", TRANSMISSIONS)
def test_transmissions(qemu_nbd, name):
    compare_with_qemu(qemu_nbd, TRANSMISSIONS[name], (1 << 30, 11))


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("session", [SESSION, SIMPLE_SESSION], ids=["structured", "simple"])
def test_writing_with_all_flags(image, tmp_path, session, read_only):
    steps = [session]
    for bit in (None, *range(16)):
        flags = 0 if bit is None else 1 << bit
        steps += [
            command(1, 65536, 512, flags) + b"x" * 512,
            command(6, 65536, 512, flags),
            command(4, 65536, 512, flags),
        ]
    with running_qemu_nbd(image, tmp_path / "s", read_only) as server:
        compare_with_qemu(server, steps, (1 << 30, 11))


words = st.one_of(
    st.sampled_from(
        [
            STRUCTURED,
            option(3),
            go(b"zork"),
            go(b"n0", 3, code=6),
            context(9, b"n0"),
            context(10, b"n0", *ALL),
            option(42),
            b"\0",
            b"n0",
        ]
    ),
    st.binary(max_size=12),
    st.builds(option, st.integers(2, 12), st.binary(max_size=24)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(words, max_size=8).map(b"".join), st.integers(1, 40))
def test_handshake_noise(qemu_nbd, noise, chunk_bytes):
    server = Memory(qemu_nbd[1]).new_server()
    events = server.receive_data(FIXED + noise + ABORT)
    if events and type(events[0]) is ConnectionEnded and events[0].aborts:
        return  # would kill the qemu-nbd that the other tests use; test_assertion has this
    compare_with_qemu(qemu_nbd, [FIXED + noise + ABORT], (1 << 30, chunk_bytes))


commands = st.builds(
    command,
    st.sampled_from(
        [0, 0, 3, 7, 8, 9]
    ),  # no cache: it copies on read in qemu-nbd, even with -r, and so changes what is mapped
    st.integers(0, SIZE) | st.sampled_from([SIZE, SIZE - 1, 1 << 63]),
    st.integers(0, 70000) | st.sampled_from([SIZE, 1 << 25, (1 << 25) + 1, (1 << 32) - 1]),
    st.sampled_from([0, 0, 0, 1, 2, 4, 8, 16]),
    st.integers(0, (1 << 64) - 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([SESSION, SIMPLE_SESSION, CONTEXT_SESSION]), st.lists(commands, max_size=6))
def test_request_noise(qemu_nbd, session, requests):
    compare_with_qemu(qemu_nbd, [session, *requests], (1 << 30, 17))


def test_assertion(image, tmp_path):
    """A metadata option that goes on behind its queries like another option ends qemu-nbd 7.2 (nbd/server.c:1195)."""
    own, path = tmp_path / "d.qcow2", tmp_path / "s"
    shutil.copy(image, own)
    payload = FIXED + option(9, text(b"n0") + U32(0) + ABORT)
    process = start(["qemu-nbd", "-k", path, "-t", "-f", "qcow2", "-x", "n0", own], path)
    try:
        with connect(path) as connection:
            connection.sendall(payload)
            while connection.recv(4096):
                pass
        assert process.wait(DEADLINE_S) == -6
        message = process.stderr.read().decode()
    finally:
        process.kill()
        process.communicate()
    server = Memory(ExportInfo("n0", SIZE, FLAGS)).new_server()
    (ended,) = server.receive_data(payload)
    assert ended.aborts
    assert message.strip().endswith(ended.reason)


def test_a_disk_that_fails(image, tmp_path):
    """qemu-nbd closes the connection instead of saying so, where it could have sent several chunks."""
    disk = f"driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={image}"
    error = "file.inject-error.0.event=read_aio,file.inject-error.0.errno=5"
    path = tmp_path / "s"
    process = start(["qemu-nbd", "-k", path, "-r", "-t", "-x", "n0", "--image-opts", f"{disk},{error}"], path)
    try:
        for session, flags in ((SESSION, 0), (SESSION, nbd.CMD_FLAG_DF), (SIMPLE_SESSION, 0)):
            asked = command(0, 64 * KIB, 4096, flags)
            server = Memory(ExportInfo("n0", SIZE, READ_ONLY)).new_server()
            greeting = server.receive_data(session) and b"".join(server.take_output())
            server.fail_read(server.receive_data(asked)[0], 5, "Input/output error")
            answer = b"".join(server.take_output())
            with connect(path) as connection:
                connection.sendall(session)
                theirs = connection.makefile("rb")
                theirs.read(len(greeting))
                connection.sendall(asked)
                assert theirs.read(len(answer) or 1) == answer  # nothing: it closes
    finally:
        process.kill()
        process.communicate()


# -- our client on real servers


def session_of(path, connection):
    """Drive one of our client connections over a socket: a function from requests to their replies."""
    wire = connect(path)
    events = []

    def step():
        for piece in connection.take_output():
            wire.sendall(piece)
        received = wire.recv(1 << 20)
        events.extend(connection.receive_data(received) if received else connection.receive_eof())

    while not (events and type(events[-1]) in (Ready, ConnectionEnded)):
        step()
    opened = list(events)

    def ask(requests):
        events.clear()
        sent = [connection.request(*request) for request in requests]
        while len(events) < len(sent):
            step()
        return [
            next(reply for reply in events if type(reply) is Reply and reply.request is request)
            for request in sent
        ]

    def close():
        connection.disconnect()
        for piece in connection.take_output():
            wire.sendall(piece)
        assert wire.recv(1) == b""
        wire.close()

    return opened, ask, close


@pytest.mark.parametrize("structured", [True, False])
def test_our_client_on_qemu_nbd(qemu_nbd, structured):
    path, info = qemu_nbd
    memory = Memory(info)
    opened, ask, close = session_of(path, open_export("n0", info.contexts, structured))
    ready = opened[-1]
    assert (ready.size, ready.block_sizes) == (SIZE, (1, 4096, 32 << 20))
    assert ready.flags == info.flags | (nbd.FLAG_SEND_DF if structured else 0)
    assert ready.contexts == (
        {"base:allocation": 0, "qemu:allocation-depth": 1, "qemu:dirty-bitmap:b0": 2} if structured else {}
    )
    ranges = [(start_ * 4096, 40_000) for start_ in range(40)]
    replies = ask([(nbd.CMD_READ, *range_) for range_ in ranges[:15]])
    for (offset, length), reply in zip(ranges, replies, strict=False):
        assert bytes(reply.payload) == memory.content[offset : offset + length]
    assert ask([(nbd.CMD_READ, SIZE, 1)])[0].error == nbd.EINVAL
    if structured:
        (status,) = ask([(nbd.CMD_BLOCK_STATUS, 0, SIZE)])
        assert status.extents[0] == [(65536, 3), (131072, 0), (327680, 3), (65536, 0), (458752, 3)]
        assert status.extents[2] == [(524288, 0), (65536, 1), (458752, 0)]
    close()


@pytest.mark.parametrize("arguments", [["--no-sr"], ["-m", "single"], []])
def test_our_client_on_nbdkit(tmp_path, arguments):
    path = tmp_path / "s"
    process = start(
        ["nbdkit", "-f", "-U", path, *(["--no-sr"] if "--no-sr" in arguments else []), "pattern", str(SIZE)],
        path,
    )
    try:
        opened, ask, close = session_of(path, open_export("", ["base:allocation"]))
        assert opened[-1].size == SIZE
        assert opened[-1].structured == ("--no-sr" not in arguments)
        expected = b"".join(struct.pack(">Q", offset) for offset in range(0, SIZE, 8))
        replies = ask([(nbd.CMD_READ, offset, 65536) for offset in range(0, SIZE, 65536)])
        assert b"".join(bytes(reply.payload) for reply in replies) == expected
        close()
    finally:
        process.kill()
        process.communicate()


# -- real clients on our server


@pytest.fixture
def our_server(tmp_path):
    """A memory disk behind a unix socket: one thread a connection, sockets and nothing else."""
    memory = Memory(
        ExportInfo(
            "n0",
            SIZE,
            FLAGS,
            "desc",
            contexts=("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"),
        )
    )
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    lock = threading.Lock()

    def session(wire):
        with wire:
            server = memory.new_server()
            while True:
                try:
                    for piece in server.take_output():
                        wire.sendall(piece)
                except BrokenPipeError:
                    return  # the client does not wait for the answer to NBD_OPT_ABORT
                received = wire.recv(1 << 18) if server.state != "closed" else b""
                if not received:
                    return
                with lock:
                    for event in server.receive_data(received):
                        if type(event) is Request:
                            memory.serve(server, event)

    def accept():
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=session, args=(wire,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield memory, f"nbd+unix:///n0?socket={tmp_path}/s"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_nbdinfo_on_our_server(our_server):
    _, uri = our_server
    export = json.loads(tool("nbdinfo", "--json", uri))["exports"][0]
    assert (export["export-name"], export["description"], export["export-size"]) == ("n0", "desc", SIZE)
    assert export["contexts"] == ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"]
    assert (export["can_fast_zero"], export["can_df"], export["is_read_only"]) == (True, True, False)
    listing = json.loads(tool("nbdinfo", "--list", "--json", uri))
    assert [entry["export-name"] for entry in listing["exports"]] == ["n0"]
    ranges = json.loads(tool("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b0", uri))
    assert [(run["offset"], run["length"], run["type"]) for run in ranges] == [
        (0, 524288, 0),
        (524288, 65536, 1),
        (589824, 458752, 0),
    ]


def test_nbdcopy_on_our_server(our_server, tmp_path):
    memory, uri = our_server
    copied = tmp_path / "copy"
    tool("nbdcopy", uri, copied)
    assert copied.read_bytes() == memory.content
    copied.write_bytes(bytes(range(256)) * (SIZE // 256))
    tool("nbdcopy", copied, uri)
    assert bytes(memory.content) == copied.read_bytes()


def test_qemu_img_on_our_server(our_server, tmp_path):
    memory, uri = our_server
    extents = json.loads(tool("qemu-img", "map", "--output=json", uri))
    assert [(extent["start"], extent["start"] + extent["length"], extent["data"]) for extent in extents] == [
        (start_, end, value is not None) for start_, end, value in RUNS
    ]
    tool("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == memory.content


def test_qemu_io_on_our_server(our_server):
    memory, uri = our_server
    tool(
        "qemu-io",
        "-f",
        "raw",
        "-c",
        "write -P 0x77 4k 8k",
        "-c",
        "read -P 0x77 4k 8k",
        "-c",
        "write -z 6k 1k",
        "-c",
        "flush",
        uri,
    )
    assert memory.content[4096:12288] == b"\x77" * 2048 + bytes(1024) + b"\x77" * 5120
