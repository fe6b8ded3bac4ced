"""Making TLS credentials: which files there must be, and what QEMU finds wrong with them by itself.

Source: crypto/tlscreds.c, tlscredsx509.c, tlscredspsk.c, tlscredsanon.c, 7.2. Of the checks of a certificate
against its issuer, signatures are not computed.
"""

from __future__ import annotations

from errno import ENOENT
from os import strerror

from simulator.block.errors import QmpError
from simulator.block.nbd.tls import SERVER, NoSessions, NoSessionsError, TlsCredentials, TlsSettings
from simulator.block.secrets import find_secret, read_file
from simulator.wire import x509

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.host import Host
    from simulator.block.nbd.tls import TlsContext
    from simulator.wire.x509 import Certificate

    MakeContext = Callable[[TlsSettings], TlsContext]

_NO_SESSIONS = "this simulated machine has no sockets, and so no TLS; the program `goldenfleece emulator` has"
_NO_ANONYMOUS = "sessions without certificates or keys are not simulated"
_NO_HEADER = "Base64 unexpected header error."
_NO_DER = "ASN1 parser: Error in TAG."
_NO_BASE64 = "Base64 decoding error."
# Kind of file, name for a server, for a client, whether it must be there (for each). "" is none.
_X509_FILES = (
    ("ca-cert", "ca-cert.pem", "ca-cert.pem", True, True),
    ("ca-crl", "ca-crl.pem", "", False, False),
    ("cert", "server-cert.pem", "client-cert.pem", True, False),
    ("key", "server-key.pem", "client-key.pem", True, False),
    ("dh", "dh-params.pem", "", False, False),
)


class Maker:
    """Makes credentials on one host. `now_s` is the host's time since 1970; `make_context` is None where
    there are no sessions."""

    def __init__(
        self,
        host: Host,
        objects: dict[str, Any],
        now_s: int,
        make_context: MakeContext | None,
        must_encipher: bool = False,
    ) -> None:
        self._host, self._objects, self._now_s = host, objects, now_s
        self._make_context = make_context
        self._must_encipher = must_encipher

    def load(self, credentials: TlsCredentials) -> None:
        """Raises QmpError."""
        if credentials.type_name == "tls-creds-x509":
            self._load_x509(credentials)
        elif credentials.type_name == "tls-creds-psk":
            self._load_psk(credentials)
        else:
            credentials.context = NoSessions(_NO_ANONYMOUS)
            if credentials.endpoint == SERVER:
                self._check_dh(self._path(credentials, "dh-params.pem", False))

    def _path(self, credentials: TlsCredentials, name: str, is_required: bool) -> str:
        """ "" if it is not there and need not be (qcrypto_tls_creds_get_path)."""
        directory = credentials.properties.get("dir")
        if directory is None:
            if is_required:
                raise QmpError("Missing 'dir' property value")
            return ""
        path = f"{directory}/{name}"
        if self._host.exists(path):
            return path
        if not is_required:
            return ""
        reason = self._reason(path)
        raise QmpError(f"Unable to access credentials {path}: {reason}")

    def _reason(self, path: str) -> str:
        try:
            self._host.open(path, read_only=True).close()
        except OSError as error:
            return error.strerror or str(error)
        return strerror(ENOENT)

    def _make(self, credentials: TlsCredentials, settings: TlsSettings) -> None:
        if self._make_context is None:
            credentials.lack = _NO_SESSIONS
            return
        try:
            credentials.context = self._make_context(settings)
        except NoSessionsError as error:
            credentials.lack = str(error)

    # -- x509
    def _load_x509(self, credentials: TlsCredentials) -> None:
        is_server, properties = credentials.endpoint == SERVER, credentials.properties
        files = {}
        for kind, for_server, for_client, server_must, client_must in _X509_FILES:
            name = for_server if is_server else for_client
            path = self._path(credentials, name, server_must if is_server else client_must) if name else ""
            if path:
                files[kind] = path
        if properties.get("sanity-check", True):
            self._check_sanity(files, is_server)
        has_own = "cert" in files and "key" in files
        password = ""
        if has_own and "passwordid" in properties:
            password = find_secret(self._objects, properties["passwordid"])
        self._load(files["ca-cert"], f"CA certificate '{files['ca-cert']}'")
        if has_own:
            both = f"certificate '{files['cert']}' & key '{files['key']}'"
            own = self._load(files["cert"], both)
            self._load(files["key"], both)
            if not _has_block(own, b"CERTIFICATE", b"X509 CERTIFICATE"):
                # GnuTLS's words, and not the other way round.
                reason = _NO_HEADER if _says(own, b"CERTIFICATE") else _NO_BASE64
                raise QmpError(f"Cannot load {both}: {reason}")
        settings = TlsSettings(
            credentials.endpoint,
            self._priority(credentials),
            files if has_own else {kind: path for kind, path in files.items() if kind not in ("cert", "key")},
            properties.get("verify-peer", True),
            password,
        )
        self._make(credentials, settings)
        if "ca-crl" in files:
            what = f"CRL '{files['ca-crl']}'"
            if not _has_block(self._load(files["ca-crl"], what), b"X509 CRL"):
                raise QmpError(f"Cannot load {what}: {_NO_BASE64}")
        self._check_dh(files.get("dh", ""))

    def _read(self, path: str) -> bytes:
        """To look at it. Raises QmpError."""
        return read_file(self._host, path, f"Cannot load CA cert list {path}: ")

    def _load(self, path: str, what: str) -> bytes:
        """As GnuTLS does, which tells no more of a file that cannot be read. Raises QmpError."""
        try:
            return self._host.read_all(path)
        except OSError:
            raise QmpError(f"Cannot load {what}: Error while reading file.") from None

    def _check_dh(self, path: str) -> None:
        if not path:
            return
        text = read_file(self._host, path, "")
        if not _has_block(text, b"DH PARAMETERS"):
            reason = _NO_BASE64 if _says(text, b"DH PARAMETERS") else _NO_HEADER
            raise QmpError(f"Unable to load DH parameters from {path}: {reason}")

    def _check_sanity(self, files: dict[str, str], is_server: bool) -> None:
        """qcrypto_tls_creds_x509_sanity_check."""
        own: Certificate | None = None
        if "cert" in files:
            own = self._own_certificate(files["cert"], is_server)
        try:
            issuers = x509.certificates(self._read(files["ca-cert"]))
        except x509.Malformed:
            issuers = []
        if not issuers:
            raise QmpError(f"Unable to import CA certificate list {files['ca-cert']}")
        if own is not None:
            self._check_own(own, files["cert"], is_server)
        for issuer in issuers:
            self._check_issuer(issuer, files["ca-cert"])
        if own is not None and not any(issuer.may_have_signed(own) for issuer in issuers):
            raise QmpError(
                f"Our own certificate {files['cert']} failed validation against {files['ca-cert']}: "
                "The certificate hasn't got a known issuer"
            )

    def _own_certificate(self, path: str, is_server: bool) -> Certificate:
        kind = "server" if is_server else "client"
        text = self._read(path)
        try:
            found = x509.certificates(text)
        except x509.NotDer:
            raise QmpError(f"Unable to import {kind} certificate {path}: {_NO_DER}") from None
        except x509.Malformed:
            found = []
        if not found:
            raise QmpError(f"Unable to import {kind} certificate {path}: {_NO_HEADER}")
        return found[0]

    def _check_times(self, certificate: Certificate, what: str, path: str) -> None:
        if certificate.not_after_s < self._now_s:
            raise QmpError(f"The {what} certificate {path} has expired")
        if certificate.not_before_s > self._now_s:
            raise QmpError(f"The {what} certificate {path} is not yet active")

    def _check_own(self, own: Certificate, path: str, is_server: bool) -> None:
        kind = "server" if is_server else "client"
        self._check_times(own, kind, path)
        if own.is_ca:
            raise QmpError(
                f"The certificate {path} basic constraints show a CA, but we need one for a {kind}"
            )
        if own.usage is not None and own.usage[1]:
            if x509.MAY_SIGN_DATA not in own.usage[0]:
                raise QmpError(f"Certificate {path} usage does not permit digital signature")
            if self._must_encipher and x509.MAY_ENCIPHER_KEYS not in own.usage[0]:
                raise QmpError(f"Certificate {path} usage does not permit key encipherment")
        if own.purposes is not None and own.purposes[1]:
            wanted = (x509.FOR_SERVERS if is_server else x509.FOR_CLIENTS, x509.ANY_PURPOSE)
            if not any(purpose in wanted for purpose in own.purposes[0]):
                raise QmpError(f"Certificate {path} purpose does not allow use with a TLS {kind}")

    def _check_issuer(self, issuer: Certificate, path: str) -> None:
        self._check_times(issuer, "CA", path)
        if issuer.is_ca is None:
            raise QmpError(f"The certificate {path} is missing basic constraints for a CA")
        if not issuer.is_ca:
            raise QmpError(f"The certificate {path} basic constraints do not show a CA")
        if issuer.usage is not None and issuer.usage[1] and x509.MAY_SIGN_CERTIFICATES not in issuer.usage[0]:
            raise QmpError(f"Certificate {path} usage does not permit certificate signing")

    # -- psk
    def _load_psk(self, credentials: TlsCredentials) -> None:
        username, is_server = credentials.properties.get("username"), credentials.endpoint == SERVER
        if is_server and username is not None:
            raise QmpError("username should not be set when endpoint=server")
        parameters = self._path(credentials, "dh-params.pem", False) if is_server else ""
        path = self._path(credentials, "keys.psk", True)
        self._check_dh(parameters)
        keys = self._keys(path, is_server)
        if not is_server:
            username = username or "qemu"
            if username not in keys:
                raise QmpError(f"Username {username} not found in PSK file {path}")
            keys = {username: keys[username]}
        self._make(credentials, TlsSettings(credentials.endpoint, self._priority(credentials), keys=keys))

    def _keys(self, path: str, is_server: bool) -> dict[str, bytes]:
        """A server looks into the file when somebody comes, so nothing is wrong with it yet."""
        try:
            return _keys(read_file(self._host, path, f"Cannot read PSK file {path}: "))
        except QmpError:
            if is_server:
                return {}
            raise

    @staticmethod
    def _priority(credentials: TlsCredentials) -> str:
        return str(credentials.properties.get("priority", ""))


def _says(text: bytes, label: bytes) -> bool:
    """Whether a block of that kind begins."""
    return b"-----BEGIN " + label + b"-----" in text


def _has_block(text: bytes, *labels: bytes) -> bool:
    """One that is whole."""
    try:
        return bool(x509.pem_blocks(text, *labels))
    except x509.Malformed:
        return False


def _keys(text: bytes) -> dict[str, bytes]:
    """Of a file with a line NAME:HEXADECIMAL for each; the first of a name counts."""
    keys: dict[str, bytes] = {}
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        name, colon, digits = line.partition(":")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            continue
        if colon:
            keys.setdefault(name, key)
    return keys
