"""Keys and certificates, made by openssl: those that a scenario names, and what tests of TLS need.

They are valid from 1970, where a simulated machine's clock begins, to 2049.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from scenarios.backends.interface import SetupError

PROGRAM = "openssl"
FEATURE = "certificates"

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
ROOT = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
ALWAYS = ("19700101000000Z", "20491231235959Z")
# QEMU 5.2 wants a key that enciphers others, whatever the key exchange.
_EITHER_END = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature,keyEncipherment")
_LOCALHOST = "subjectAltName=DNS:localhost,IP:127.0.0.1"
_DEADLINE_S = 30


def features() -> frozenset[str]:
    """Whether certificates can be made here, as Session.features has it."""
    return frozenset((FEATURE,)) if shutil.which(PROGRAM) else frozenset()


def openssl(*words: str | Path) -> None:
    """Raises SetupError."""
    if shutil.which(PROGRAM) is None:
        raise SetupError(f"{PROGRAM}: not found in PATH; Debian has it in openssl: apt-get install openssl")
    command = [PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=_DEADLINE_S, check=False)
    if done.returncode:
        raise SetupError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


class Authority:
    """Makes certificates in `place`, each NAME-cert.pem with its NAME-key.pem; its own are `ca`."""

    def __init__(
        self,
        place: Path,
        name: str = "/CN=Test CA",
        extensions: tuple[str, ...] = ROOT,
        valid: tuple[str, str] = ALWAYS,
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
        valid: tuple[str, str] = ALWAYS,
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


def make(place: Path, certificates: dict[str, str]) -> None:
    """Scenario.certificates: PLACE/NAME is a directory for tls-creds-x509 of either endpoint. Raises
    SetupError."""
    authorities = {
        name: Authority(place / f".{name}", f"/CN={name}") for name in dict.fromkeys(certificates.values())
    }
    for name, by in certificates.items():
        authority = authorities[by]
        authority.issue(name, f"/CN={name}", (*_EITHER_END, _LOCALHOST))
        own = {
            f"{kind}_{part}": authority.place / f"{name}-{part}.pem"
            for kind in ("server", "client")
            for part in ("cert", "key")
        }
        directory(place / name, ca_cert=authority.place / "ca-cert.pem", **own)
