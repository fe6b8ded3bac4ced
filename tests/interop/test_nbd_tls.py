"""NBD over TLS: real clients on the real storage daemon and on the simulator's, and both as clients of real
servers, do the same."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from both_programs import DAEMON, DEADLINE_S, SYSTEM, Running, connect, read_all, real, start, wait_until
from certificates import LEAF, NAMES, PAST, Authority, directory, purpose

KIB = 1024
SIZE = 4 * KIB * KIB
SERVER_NAME = "/C=GB/ST=London/O=Fleece, Ltd/CN=server.example"
CLIENT_NAME = "/C=GB/O=Fleece, Ltd/CN=client.example"
CLIENT_DN = "C=GB,O=Fleece\\, Ltd,CN=client.example"
GREETING = b"NBDMAGICIHAVEOPT\0\3"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of credentials: `good`, and others that a peer has something against."""
    place = tmp_path_factory.mktemp("credentials")
    ca, other = Authority(place / "made" / "ca"), Authority(place / "made" / "other", "/CN=Other CA")
    for authority, name, valid in ((ca, "", None), (ca, "past-", PAST), (other, "", None)):
        for kind, subject in (("server", SERVER_NAME), ("client", CLIENT_NAME)):
            extensions = (*LEAF, purpose(kind), *((NAMES,) if kind == "server" else ()))
            arguments = (valid,) if valid else ()
            authority.issue(f"{name}{kind}", subject, extensions, *arguments)

    def make(name: str, issuer: Path, made: Path, prefix: str = "") -> None:
        files = {
            f"{kind}_{part}": made / f"{prefix}{kind}-{part}.pem"
            for kind in ("server", "client")
            for part in ("cert", "key")
        }
        directory(place / name, ca_cert=issuer / "ca-cert.pem", **files)

    make("good", ca.place, ca.place)
    make("past", ca.place, ca.place, "past-")
    make("stranger", ca.place, other.place)
    make("distrustful", other.place, ca.place)
    directory(place / "anonymous", ca_cert=ca.place / "ca-cert.pem")
    return place


def image(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.seek(256 * KIB)
        file.write(b"\x5a" * (512 * KIB))


@contextmanager
def serving(
    credentials: Path, place: Path, is_real: bool, options: Sequence[str] = (), **creds: Any
) -> Iterator[Running]:
    """The storage daemon with export `n` of an image, by TLS, on socket `s` in its directory."""
    given = {"qom-type": "tls-creds-x509", "id": "tls", "endpoint": "server", "sanity-check": False}
    given |= {"dir": f"{credentials}/good", **creds}
    blockdev = {"driver": "file", "filename": "i", "node-name": "n"}
    export = {"type": "nbd", "id": "e", "node-name": "n", "writable": True}
    argv = [
        *options,
        *("--object", json.dumps(given), "--blockdev", json.dumps(blockdev)),
        *("--nbd-server", "addr.type=unix,addr.path=s,tls-creds=tls" + ",tls-authz=who" * bool(options)),
        *("--export", json.dumps(export)),
    ]
    place.mkdir()
    image(place / "i")
    with start(DAEMON, is_real, place, argv) as running:
        yield running.negotiate()


def both(credentials: Path, tmp_path: Path, talk: Callable[[Path], Any], **given: Any) -> Any:
    """What `talk` finds out at the real daemon, and at the simulated one: the same."""
    found = []
    for is_real in (True, False):
        place = tmp_path / ("real" if is_real else "simulated")
        with serving(credentials, place, is_real, **given):
            connect(place / "s").close()
            found.append(talk(place))
    assert found[1] == found[0]
    return found[0]


# -- what is said before TLS


def option(code: int, payload: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">LL", code, len(payload)) + payload


FIXED = struct.pack(">L", 3)
GO = option(7, struct.pack(">L", 1) + b"n\0\0")
BEFORE = {
    "silence": b"",
    "flags": FIXED,
    "list": FIXED + option(3) + option(2),
    "list with payload": FIXED + option(3, b"abc") + option(2),
    "go": FIXED + GO + option(2),
    "others": FIXED + option(6, b"x") + option(8) + option(9) + option(10, b"xyz") + option(2),
    "unknown": FIXED + option(99, b"payload") + option(0xFFFFFFFF) + option(2),
    "export name": FIXED + option(1, b"n"),
    "abort with payload": FIXED + option(2, b"abc"),
    "not fixed, starttls": struct.pack(">L", 0) + option(5),
    "not fixed, export name": struct.pack(">L", 0) + option(1, b"n"),
    "starttls with payload": FIXED + option(5, b"x") + option(3),
    "starttls": FIXED + option(5),
    "starttls after others": FIXED + option(3) + GO + option(5),
    "starttls, then plain": FIXED + option(5) + GO,
    "starttls, then junk": FIXED + option(5) + b"\x16\x03\x01\xff\xff" + bytes(200),
    "starttls, then text": FIXED + option(5) + b"GET / HTTP/1.1\r\n\r\n",
    "starttls, then an alert": FIXED + option(5) + b"\x15\x03\x03\0\2\2\x28",
    "starttls, then half a record": FIXED + option(5) + b"\x16\x03\x01\0\x40" + bytes(10),
    "bad magic": FIXED + b"GET / HTTP/1.1\r\n\r\n",
    "32 MiB and one": FIXED + b"IHAVEOPT" + struct.pack(">LL", 3, (32 << 20) + 1),
}  # fmt: skip


def test_before_tls(credentials: Path, tmp_path: Path) -> None:
    """All in one, and byte by byte."""

    def talk(place: Path) -> dict[str, bytes]:
        said = {}
        for name, payload in BEFORE.items():
            for pieces in ([payload], [payload[at : at + 1] for at in range(len(payload))]):
                with connect(place / "s") as client:
                    try:
                        for piece in pieces:
                            client.sendall(piece)
                        client.shutdown(socket.SHUT_WR)
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                    said[f"{name}, {len(pieces)}"] = read_all(client, name)
        return said

    said = both(credentials, tmp_path, talk)
    assert all(answer.startswith(GREETING) for answer in said.values())


# -- clients

URL = "'nbds+unix:///n?socket=s&tls-certificates={credentials}/{name}'"
OBJECT = "--object tls-creds-x509,id=t,dir={credentials}/{name},endpoint=client,sanity-check=off"
NODE = "driver=nbd,server.type=unix,server.path=s,export=n,tls-creds=t"
CLIENTS = [
    f"nbdinfo --json {URL}",
    f"nbdinfo --size {URL}",
    f"nbdinfo --map {URL}",
    f"nbdcopy {URL} copy.raw",
    f"nbdcopy i {URL}",
    f"qemu-img info {OBJECT} --image-opts {NODE},tls-hostname=localhost",
    f"qemu-img info {OBJECT} --image-opts {NODE},tls-hostname=zork",
    f"qemu-img info {OBJECT} --image-opts {NODE}",
    f"qemu-img convert {OBJECT} --image-opts {NODE},tls-hostname=server.example -O raw out.raw",
    f"qemu-io {OBJECT} --image-opts {NODE},tls-hostname=localhost -c 'write -P 7 1M 2M' -c 'read -P 7 1M 2M'",
    "qemu-img info nbd+unix:///n?socket=s",
    "nbdinfo --json nbd+unix:///n?socket=s",
]


# A client that is turned away at the end of the handshake learns of it when it writes or reads next, or while
# it still shakes hands; which of them, and whether what it had written was read, is a race.
_TURNED_AWAY = re.compile(
    r"Failed to (send|read) option (request header|request|reply): "
    r"Cannot (write to|read from) TLS channel: [^\n\"]*"
    r"|TLS handshake failed: (Error in the push function|The TLS connection was non-properly terminated|"
    r"Error in the pull function)\."
    r"|gnutls_\w+: (Error in the (push|pull) function|The TLS connection was non-properly terminated)\..*"
)
_TIMES = re.compile(r"[\d.:]+ (sec|ops|[KMG]iB/sec|ops/sec)")


def settled(text: str, place: Path) -> str:
    """Without what differs between two runs."""
    return _TURNED_AWAY.sub("TURNED AWAY", _TIMES.sub("", text)).replace(str(place), "DIR")


def run(words: str, place: Path) -> tuple[int, str, str]:
    """Exit status and what was printed."""
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.returncode, settled(done.stdout, place), settled(done.stderr, place)


@pytest.mark.parametrize("name", ["good", "anonymous", "stranger", "past", "distrustful"])
def test_clients(credentials: Path, tmp_path: Path, name: str) -> None:
    for program in ("nbdinfo", "nbdcopy", "qemu-img", "qemu-io"):
        real(program)

    # Whether a client whom the server does not know still says that the server has another name, or that it
    # wants a name to compare with, depends on who hangs up first.
    known = name in ("good", "distrustful")
    clients = [words for words in CLIENTS if known or not ("zork" in words or words.endswith(NODE))]

    def talk(place: Path) -> dict[str, Any]:
        return {words: run(words.format(credentials=credentials, name=name), place) for words in clients} | {
            "image": (place / "i").read_bytes()
        }

    said = both(credentials, tmp_path, talk)
    # libnbd trusts every server that it reaches by a unix socket.
    wanted = [known] * 5 + [name == "good"]
    assert [said[words][0] == 0 for words in CLIENTS[:6]] == wanted
    assert b"\7" * (2 * KIB * KIB) in said["image"] or name != "good"


@pytest.mark.parametrize("peer", [True, False])
@pytest.mark.parametrize("name", ["good", "anonymous", "stranger", "past"])
def test_verify_peer(credentials: Path, tmp_path: Path, peer: bool, name: str) -> None:
    words = f"qemu-img info {OBJECT} --image-opts {NODE},tls-hostname=localhost"

    def talk(place: Path) -> Any:
        return run(words.format(credentials=credentials, name=name), place)

    said = both(credentials, tmp_path, talk, **{"verify-peer": peer})
    assert (said[0] == 0) == (name == "good" or not peer)


@pytest.mark.parametrize("priority", ["NORMAL", "NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3"])
def test_priorities(credentials: Path, tmp_path: Path, priority: str) -> None:
    def talk(place: Path) -> Any:
        return [
            run(f"qemu-img info {OBJECT},priority={theirs} --image-opts {NODE},tls-hostname=localhost".format(
                credentials=credentials, name="good"), place)[0]
            for theirs in ("NORMAL", "NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3")
        ]  # fmt: skip

    assert both(credentials, tmp_path, talk, priority=priority).count(0) in (2, 3)


# -- who is allowed in

AUTHORISATIONS = {
    "by name": ({"qom-type": "authz-simple", "identity": CLIENT_DN}, True),
    "another": ({"qom-type": "authz-simple", "identity": "CN=zork"}, False),
    "nobody": ({"qom-type": "authz-list"}, False),
    "everybody": ({"qom-type": "authz-list", "policy": "allow"}, True),
    "by rule": ({"qom-type": "authz-list", "rules": [{"match": CLIENT_DN, "policy": "allow"}]}, True),
    "by glob": (
        {
            "qom-type": "authz-list",
            "rules": [{"match": "C=G?,*client.*", "policy": "allow", "format": "glob"}],
        },
        True,
    ),
    "the first rule": (
        {
            "qom-type": "authz-list",
            "policy": "allow",
            "rules": [
                {"match": "[C]=*", "policy": "deny", "format": "glob"},
                {"match": CLIENT_DN, "policy": "allow"},
                {"match": "*", "policy": "deny", "format": "glob"},
            ],
        },
        True,
    ),
    "no such object": ({"qom-type": "authz-list", "policy": "allow", "id": "other"}, False),
    "a secret": ({"qom-type": "secret", "data": "x"}, False),
}


@pytest.mark.parametrize("case", AUTHORISATIONS)
def test_authorisation(credentials: Path, tmp_path: Path, case: str) -> None:
    who, is_allowed = AUTHORISATIONS[case]
    words = f"qemu-img info {OBJECT} --image-opts {NODE},tls-hostname=localhost"

    def talk(place: Path) -> Any:
        return run(words.format(credentials=credentials, name="good"), place)

    said = both(credentials, tmp_path, talk, options=("--object", json.dumps({"id": "who", **who})))
    assert (said[0] == 0) == is_allowed


# -- the server's own commands


def test_commands(credentials: Path, tmp_path: Path) -> None:
    """Which credentials a server takes, and what may be done to them meanwhile."""
    answers = []
    for is_real in (True, False):
        place = tmp_path / ("real" if is_real else "simulated")
        place.mkdir()
        with start(SYSTEM, is_real, place) as running:
            running.negotiate()
            base = {"qom-type": "tls-creds-x509", "dir": f"{credentials}/good"}
            running.qmp("object-add", {**base, "id": "server", "endpoint": "server"})
            running.qmp("object-add", {**base, "id": "client"})
            running.qmp("object-add", {"qom-type": "secret", "id": "secret", "data": "x"})
            address = {"addr": {"type": "unix", "data": {"path": f"{place}/s"}}}
            said: list[Any] = []
            for name in ("nobody", "secret", "client"):
                said.append(running.qmp("nbd-server-start", {**address, "tls-creds": name}))
                said.append((place / "s").exists())
            bad_place = {"addr": {"type": "unix", "data": {"path": "/nowhere/s"}}, "tls-creds": "nobody"}
            said.append(running.qmp("nbd-server-start", bad_place))
            said.append(
                running.qmp("nbd-server-start", {**address, "tls-creds": "server", "tls-authz": "nobody"})
            )
            said.append(running.qmp("nbd-server-start", {**address, "tls-creds": "nobody"}))
            said.append(running.qmp("object-del", {"id": "server"}))
            with connect(place / "s") as client:
                client.sendall(FIXED + option(3) + option(5, b"x"))
                said.append(read_all(client, "the refusal"))
            said.append(running.qmp("nbd-server-stop"))
            said.append(running.qmp("object-del", {"id": "server"}))
            answers.append(json.dumps(said, default=repr).replace(str(place), "DIR"))
    assert answers[1] == answers[0]


# -- as clients of real servers

QEMU_NBD = (
    "qemu-nbd -t -e 8 -k {place}/s -f raw -x n --tls-creds t "
    "--object tls-creds-x509,id=t,dir={dir},endpoint=server,sanity-check=off {place}/i"
)
NBDKIT = "nbdkit -f -U {place}/s --tls=require --tls-certificates={dir} --tls-verify-peer file {place}/i"
PLAIN = "qemu-nbd -t -e 8 -k {place}/s -f raw -x n {place}/i"


@contextmanager
def real_server(words: str, place: Path) -> Iterator[None]:
    argv = words.split()
    real(argv[0])
    process = subprocess.Popen(argv, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until((place / "s").exists, f"{argv[0]} to listen")
        connect(place / "s").close()
        yield
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        (place / "s").unlink(missing_ok=True)


@pytest.mark.parametrize("server", [QEMU_NBD, NBDKIT, PLAIN], ids=["qemu-nbd", "nbdkit", "plain"])
def test_storage(credentials: Path, tmp_path: Path, server: str) -> None:
    """Driver nbd with every pair of credentials and names."""
    for own in ("good", "past") if server != PLAIN else ("good",):
        words = server.format(place="{place}", dir=f"{credentials}/{own}")
        wanted = at_real_client(credentials, tmp_path / f"real-{own}", words)
        assert at_client(credentials, tmp_path / f"simulated-{own}", words, is_real=False) == wanted
        is_let_in = server != PLAIN and own == "good"
        assert (wanted["good localhost"]["blockdev-add"] == "{}") == is_let_in


def at_real_client(credentials: Path, place: Path, server: str) -> dict[str, Any]:
    """QEMU sometimes waits for ever for a handshake that is over: the main loop's thread may complete it just
    before the connecting thread begins to wait for that (nbd/client.c:646, 7.2). Then once more."""
    for attempt in range(4):
        try:
            return at_client(credentials, place / str(attempt), server, is_real=True)
        except AssertionError as error:
            if "for the reply to blockdev-add" not in str(error):
                raise
    raise AssertionError("QEMU's blockdev-add never returned, in four attempts")


def at_client(credentials: Path, place: Path, server: str, is_real: bool) -> dict[str, Any]:
    place.mkdir(parents=True)
    (place / "i").write_bytes(bytes(SIZE // 2) + b"\x11" * (SIZE // 2))
    with start(SYSTEM, is_real, place) as running:
        running.negotiate()
        for name in ("good", "anonymous", "stranger", "past", "distrustful"):
            given = {"qom-type": "tls-creds-x509", "dir": f"{credentials}/{name}", "sanity-check": False}
            assert running.qmp("object-add", {**given, "id": name}) == {}
        with real_server(server.format(place=place), place):
            said = open_all(running, place)
    return {
        key: {what: settled(json.dumps(answer, sort_keys=True), place) for what, answer in found.items()}
        for key, found in said.items()
    }


def open_all(running: Running, place: Path) -> dict[str, Any]:
    said = {}
    node = {
        "driver": "nbd",
        "node-name": "n",
        "server": {"type": "unix", "path": f"{place}/s"},
        "export": "n",
    }
    cases: list[dict[str, Any]] = [
        {"tls-creds": "good", "tls-hostname": "localhost"},
        {"tls-creds": "good"},
        {},
    ]
    cases += [{"tls-creds": "good", "tls-hostname": name} for name in ("zork", "127.0.0.1", "server.example")]
    cases += [
        {"tls-creds": name, "tls-hostname": "localhost"}
        for name in ("anonymous", "stranger", "past", "distrustful")
    ]
    for case in cases:
        added = running.qmp("blockdev-add", {**node, **case})
        found: dict[str, Any] = {"blockdev-add": added}
        if added == {}:
            before = len(running.printed()[0])
            for command in ("read -P 0x11 2M 2M", "write -P 0x22 1M 512k", "read -P 0x22 1M 512k", "flush"):
                found[command] = running.hmp(f'qemu-io n "{command}"')
            printed = running.printed()[0][before:]
            found["printed"] = re.sub(r"^.* ops; .*$", "", printed, flags=re.MULTILINE)
            found["nodes"] = running.qmp("query-named-block-nodes", {"flat": True})
            found["blockdev-del"] = running.qmp("blockdev-del", {"node-name": "n"})
        said[" ".join(case.values())] = found
    return said
