"""Two sessions of ours, one at each end and no machine: pieces of any size, keys, and who is refused why."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from certificates import LEAF, NAMES, PAST, Authority, purpose

from simulator.block.nbd.tls import CLIENT, SERVER, NoSessionsError, TlsError, TlsSession, TlsSettings
from simulator.serve.tls_sessions import make_context

MIB = 1 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = Authority(tmp_path_factory.mktemp("sessions") / "ca")
    ca.issue("server", "/CN=server.example", (*LEAF, purpose("server"), NAMES))
    ca.issue("client", "/CN=client", (*LEAF, purpose("client")))
    ca.issue("past", "/CN=past", (*LEAF, NAMES), PAST)
    return ca


def settings(authority: Authority, endpoint: str, own: str, priority: str = "") -> TlsSettings:
    files = {"ca-cert": f"{authority.place}/ca-cert.pem"}
    if own:
        files |= {part: f"{authority.place}/{own}-{part}.pem" for part in ("cert", "key")}
    return TlsSettings(endpoint, priority, files, verify_peer=True)


def exchange(first: TlsSession, second: TlsSession, piece_bytes: int = MIB) -> tuple[bytes, bytes]:
    """Until both have nothing more to say: the plaintext that came out at each."""
    came = [bytearray(), bytearray()]
    sessions = (first, second)
    while True:
        said = [b"".join(session.take_output()) for session in sessions]
        if not any(said):
            return bytes(came[0]), bytes(came[1])
        for number, payload in enumerate(said):
            for start in range(0, len(payload), piece_bytes):
                piece = payload[start : start + piece_bytes]
                came[1 - number] += sessions[1 - number].receive(piece)


@pytest.mark.parametrize("priority", ["", "NORMAL:-VERS-TLS1.3"])
@pytest.mark.parametrize("piece_bytes", [1, 1000, MIB])
def test_what_is_sent_arrives(authority: Authority, piece_bytes: int, priority: str) -> None:
    """Also what was sent before the handshake was over, and many records at once."""
    server = make_context(settings(authority, SERVER, "server", priority)).session("", None)
    client = make_context(settings(authority, CLIENT, "client")).session("localhost", None)
    payload = random.Random(1).randbytes(3 * MIB // (1 if piece_bytes > 1 else 30))
    client.send([b"early", payload[:100]])
    assert exchange(client, server, piece_bytes) == (b"", b"early" + payload[:100])
    assert client.established
    assert server.established
    server.send([payload, memoryview(payload)[5:50], b""])
    client.send([b"x"])
    assert exchange(client, server, piece_bytes) == (payload + payload[5:50], b"x")


@pytest.mark.parametrize(
    ("own_server", "own_client", "host", "said"),
    [
        ("server", "", "localhost", "Verify failed: No certificate was found."),
        ("server", "client", "", "No hostname for certificate validation"),
        ("server", "client", "zork", "Certificate does not match the hostname zork"),
        ("past", "client", "localhost", "The certificate is not trusted"),
        ("past", "client", "zork", "The certificate is not trusted"),
        ("server", "past", "localhost", "The certificate is not trusted"),
    ],
)
def test_who_is_refused(authority: Authority, own_server: str, own_client: str, host: str, said: str) -> None:
    server = make_context(settings(authority, SERVER, own_server)).session("", None)
    client = make_context(settings(authority, CLIENT, own_client)).session(host, None)
    with pytest.raises(TlsError) as refused:
        exchange(client, server)
    assert str(refused.value) == said
    # Whoever refuses says nothing, not even an alert.
    refusing = client if host != "localhost" or own_server == "past" else server
    assert refusing.take_output() == []


def test_a_session_that_is_disturbed_ends(authority: Authority) -> None:
    server = make_context(settings(authority, SERVER, "server")).session("", None)
    client = make_context(settings(authority, CLIENT, "client")).session("localhost", None)
    exchange(client, server)
    client.send([b"something"])
    disturbed = bytearray(b"".join(client.take_output()))
    disturbed[-1] ^= 1
    with pytest.raises(TlsError, match="Cannot read from TLS channel: Input/output error"):
        server.receive(bytes(disturbed))


@pytest.mark.parametrize(
    ("name", "key", "fits"), [("a", "00112233", True), ("a", "11", False), ("b", "00112233", False)]
)
def test_keys(name: str, key: str, fits: bool) -> None:
    """From Python 3.13 on; before, it is said that there are none."""
    ends = [(SERVER, {"a": bytes.fromhex("00112233")}), (CLIENT, {name: bytes.fromhex(key)})]
    if sys.version_info < (3, 13):
        for endpoint, keys in ends:
            with pytest.raises(NoSessionsError, match=r"need Python 3\.13"):
                make_context(TlsSettings(endpoint, "", keys=keys))
        return
    server, client = (make_context(TlsSettings(end, "", keys=keys)).session("", None) for end, keys in ends)
    client.send([b"hello"])
    if fits:
        assert exchange(client, server) == (b"", b"hello")
    else:
        with pytest.raises(TlsError, match="TLS handshake failed"):
            exchange(client, server)


def test_a_place_without_certificates(authority: Authority, tmp_path: Path) -> None:
    """A CA that is junk: nobody is trusted."""
    (tmp_path / "junk").write_text("junk\n")
    trusting = TlsSettings(CLIENT, "", {"ca-cert": f"{tmp_path}/junk"}, verify_peer=True)
    server = make_context(settings(authority, SERVER, "server")).session("", None)
    with pytest.raises(TlsError, match="hasn't got a known issuer"):
        exchange(make_context(trusting).session("localhost", None), server)
