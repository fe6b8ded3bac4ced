"""What is read in a certificate is what openssl reads in it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from certificates import FUTURE, LEAF, NOW, PAST, ROOT, Authority

from simulator.wire import x509

OTHER_NAMES = (
    "",
    "subjectAltName=DNS:localhost,DNS:server.example,IP:127.0.0.1,IP:::1",
    "subjectAltName=DNS:*.example.com,DNS:*.zork",
    "subjectAltName=IP:10.0.0.1",
    "subjectAltName=email:a@b.c",
)
HOSTS = (
    "localhost", "LocalHost", "server.example", "common.example", "a.example.com", "a.b.example.com",
    "example.com", "x.zork", "127.0.0.1", "::1", "10.0.0.1", "10.0.0.2", "zork", "*.example.com",
)  # fmt: skip
SUBJECTS = (
    "/C=GB/ST=London/L=London/O=Fleece, Ltd/OU=Tests \\+ more/CN=common.example",
    "/CN=common.example",
    '/O=\\#hash/CN= \\\\ <q\\"uoted>;',
    "/O=Wolle & Vlies GmbH/CN=Gr\u00f6\u00dfe",
)


def told(certificate: Path, *words: str) -> str:
    argv = ["openssl", "x509", "-in", str(certificate), "-noout", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("x509") / "ca")


def read(path: Path) -> x509.Certificate:
    (certificate,) = x509.certificates(path.read_bytes())
    return certificate


@pytest.mark.parametrize("names", OTHER_NAMES, ids=lambda names: names[15:] or "none")
def test_hosts(authority: Authority, names: str) -> None:
    authority.issue("hosts", "/CN=common.example", (*LEAF, *filter(None, [names])))
    path = authority.place / "hosts-cert.pem"
    for host in HOSTS:
        is_address = host.replace(".", "").isdigit() or ":" in host
        says = told(path, "-checkip" if is_address else "-checkhost", host)
        assert read(path).is_for(host) == ("does match" in says), (host, says)


@pytest.mark.parametrize("valid", [PAST, NOW, FUTURE, ("19700101000000Z", "20500101000000Z")])
def test_times(authority: Authority, valid: tuple[str, str]) -> None:
    authority.issue("times", "/CN=x", LEAF, valid)
    certificate = read(authority.place / "times-cert.pem")
    wanted = [datetime.strptime(time, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC) for time in valid]
    assert [certificate.not_before_s, certificate.not_after_s] == [time.timestamp() for time in wanted]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subjects(authority: Authority, subject: str) -> None:
    """openssl gives the last part first."""
    authority.issue("subject", subject, LEAF)
    path = authority.place / "subject-cert.pem"
    lines = told(path, "-subject", "-nameopt", "sep_multiline,utf8,esc_2253").splitlines()[1:]
    assert read(path).subject == ",".join(line.lstrip() for line in lines)


def test_extensions(authority: Authority) -> None:
    own = read(authority.place / "ca-cert.pem")
    assert (own.is_ca, own.usage, own.purposes) == (True, ([x509.MAY_SIGN_CERTIFICATES], True), None)
    authority.issue("leaf", "/CN=x", (*LEAF, "extendedKeyUsage=clientAuth,serverAuth,1.2.3.40000"))
    leaf = read(authority.place / "leaf-cert.pem")
    assert (leaf.is_ca, leaf.usage) == (False, ([x509.MAY_SIGN_DATA], True))
    assert leaf.purposes == ([x509.FOR_CLIENTS, x509.FOR_SERVERS, "1.2.3.40000"], False)
    assert own.may_have_signed(leaf)
    assert own.may_have_signed(own)
    assert not leaf.may_have_signed(own)
    authority.issue("bare", "/CN=x", ())
    bare = read(authority.place / "bare-cert.pem")
    assert (bare.is_ca, bare.usage, bare.purposes) == (None, None, None)


def test_another_of_the_same_name(authority: Authority, tmp_path: Path) -> None:
    """By the key's identifier, which openssl puts into what it is told to."""
    twin = Authority(tmp_path / "twin", extensions=(*ROOT, "subjectKeyIdentifier=hash"))
    twin.issue("leaf", "/CN=x", ("authorityKeyIdentifier=keyid:always",))
    signed = read(twin.place / "leaf-cert.pem")
    other = Authority(tmp_path / "other", extensions=(*ROOT, "subjectKeyIdentifier=hash"))
    assert read(twin.place / "ca-cert.pem").may_have_signed(signed)
    assert not read(other.place / "ca-cert.pem").may_have_signed(signed)


def test_what_is_none(authority: Authority) -> None:
    assert x509.certificates(b"junk\n") == []
    with pytest.raises(x509.Malformed, match="expected base64"):
        x509.certificates(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")
    whole = x509.pem_blocks((authority.place / "ca-cert.pem").read_bytes(), b"CERTIFICATE")[0]
    for length in range(len(whole)):
        with pytest.raises(x509.NotDer):
            x509.Certificate(whole[:length])
