"""Keys and certificates for tests of TLS, made by openssl while the test runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_CONFIG = """\
[ca]
default_ca = here
[here]
database = {place}/index
rand_serial = yes
new_certs_dir = {place}
default_md = sha256
unique_subject = no
policy = any
[any]
countryName = optional
stateOrProvinceName = optional
organizationName = optional
commonName = optional
"""
LEAF = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")
NAMES = "subjectAltName=DNS:localhost,DNS:server.example,IP:127.0.0.1"
ROOT = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
PAST = ("20200101000000Z", "20200201000000Z")
NOW = ("20200101000000Z", "20491231235959Z")
FUTURE = ("20400101000000Z", "20491231235959Z")


def purpose(kind: str) -> str:
    """`kind` is server or client."""
    return f"extendedKeyUsage=critical,{kind}Auth"


def openssl(*words: str | Path) -> None:
    assert shutil.which("openssl"), "openssl is not installed: apt install openssl"
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, (words, done.stderr.decode())


class Authority:
    """Makes certificates in `place`, each NAME-cert.pem with its NAME-key.pem; its own are `ca`."""

    def __init__(
        self,
        place: Path,
        name: str = "/CN=Test CA",
        extensions: tuple[str, ...] = ROOT,
        valid: tuple[str, str] = NOW,
    ) -> None:
        place.mkdir(parents=True)
        self.place = place
        (place / "index").touch()
        (place / "config").write_text(_CONFIG.format(place=place))
        self.issue("ca", name, extensions, valid, self_signed=True)

    def issue(
        self,
        name: str,
        subject: str,
        extensions: tuple[str, ...],
        valid: tuple[str, str] = NOW,
        self_signed: bool = False,
    ) -> None:
        place = self.place
        key, request = place / f"{name}-key.pem", place / f"{name}.csr"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", *curve, "-keyout", key, "-out", request, "-subj", subject)
        (place / "extensions").write_text("\n".join(extensions) + "\n")
        signer = ("-selfsign",) if self_signed else ("-cert", place / "ca-cert.pem")
        openssl(
            "ca", "-batch", "-notext", "-preserveDN", "-config", place / "config", "-in", request,
            "-out", place / f"{name}-cert.pem", "-extfile", place / "extensions", *signer,
            "-keyfile", place / "ca-key.pem", "-startdate", valid[0], "-enddate", valid[1],
        )  # fmt: skip


def directory(place: Path, **sources: Path) -> Path:
    """A directory as QEMU's `dir`: `ca_cert=PATH` becomes ca-cert.pem, and so on."""
    place.mkdir(parents=True)
    for name, source in sources.items():
        shutil.copy(source, place / f"{name.replace('_', '-')}.pem")
    return place
