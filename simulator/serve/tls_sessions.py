"""TLS by the standard library's `ssl`, on memory: no socket is seen here.

OpenSSL stands for the GnuTLS that QEMU uses, so texts of a failed handshake are only as near as a few
reasons allow. What QEMU decides itself, trust, the host's name and the peer's, is said in its words. A
certificate that is not trusted ends the handshake where it is read; QEMU looks at it when the handshake is
over, and a client may have done its part by then. Purposes of a peer's certificate count here, not in QEMU.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

from simulator.block.errors import QmpError
from simulator.block.nbd.tls import SERVER, NoSessionsError, TlsContext, TlsError, TlsSession
from simulator.wire.x509 import Certificate, Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.block.nbd.tls import Authorize, TlsSettings
    from simulator.wire.nbd.messages import Payload

_PLAIN_BYTES = 1 << 18
# X509_V_ERR_* of OpenSSL: what QEMU says (qcrypto_tls_session_check_certificate).
_NO_ISSUER = "The certificate hasn't got a known issuer"
_REASONS = {
    2: _NO_ISSUER,
    18: _NO_ISSUER,
    19: _NO_ISSUER,
    20: _NO_ISSUER,
    21: _NO_ISSUER,
    23: "The certificate has been revoked",
    68: "The certificate uses an insecure algorithm",
}
_VERSIONS = {
    "VERS-TLS1.2": ssl.TLSVersion.TLSv1_2,
    "VERS-TLS1.3": ssl.TLSVersion.TLSv1_3,
}


def make_context(settings: TlsSettings) -> Context:
    """Raises QmpError if the own certificate or key is none, or they do not go together; NoSessionsError."""
    is_server = settings.endpoint == SERVER
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if is_server:
        # GnuTLS sends none unless a key for them was made.
        context.num_tickets = 0
    _choose_versions(context, settings.priority)
    if settings.keys is None:
        _use_certificates(context, settings, is_server)
    else:
        _use_keys(context, settings.keys, is_server)
    return Context(context, settings)


def _use_keys(context: ssl.SSLContext, keys: dict[str, bytes], is_server: bool) -> None:
    """Raises NoSessionsError before Python 3.13."""
    use = getattr(context, "set_psk_server_callback" if is_server else "set_psk_client_callback", None)
    if use is None:
        raise NoSessionsError("sessions by keys need Python 3.13 or later")
    context.set_ciphers("PSK")
    if is_server:
        # An unknown name gets an empty key, which ends the handshake.
        use(lambda name: keys.get(name or "", b""), "")
    else:
        use(lambda hint: next(iter(keys.items())))


def _use_certificates(context: ssl.SSLContext, settings: TlsSettings, is_server: bool) -> None:
    files = settings.files
    # QEMU has looked at it already, or was told not to: then nobody is trusted.
    with suppress(ssl.SSLError):
        context.load_verify_locations(cafile=files["ca-cert"])
    if "cert" in files:
        _load_own(context, files["cert"], files["key"], settings.password)
    if settings.verify_peer:
        context.verify_mode = ssl.CERT_OPTIONAL if is_server else ssl.CERT_REQUIRED
        if "ca-crl" in files:
            _load_revocations(context, files["ca-crl"])


def _choose_versions(context: ssl.SSLContext, priority: str) -> None:
    """Of GnuTLS's priorities only those that take versions away or name them."""
    chosen = list(_VERSIONS)
    for word in priority.split(":"):
        sign, name = word[:1], word[1:]
        if sign in "-!" and name == "VERS-ALL":
            chosen = []
        elif sign in "-!" and name in chosen:
            chosen.remove(name)
        elif sign == "+" and name in _VERSIONS and name not in chosen:
            chosen.append(name)
    versions = sorted(_VERSIONS[name] for name in chosen) or list(_VERSIONS.values())
    context.minimum_version, context.maximum_version = versions[0], versions[-1]


def _load_own(context: ssl.SSLContext, certificate: str, key: str, password: str) -> None:
    try:
        # Without a password of its own, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: password)
    except (ssl.SSLError, OSError, ValueError) as error:
        with open(key, "rb") as file:
            text = file.read()
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            reason = "The certificate and the given key do not match."
        elif b"ENCRYPTED" in text:
            reason = "Decryption has failed."
        else:
            reason = "The requested data were not available."
        raise QmpError(f"Cannot load certificate '{certificate}' & key '{key}': {reason}") from None


def _load_revocations(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        return  # whoever made the settings says so
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


class Context(TlsContext):
    def __init__(self, context: ssl.SSLContext, settings: TlsSettings) -> None:
        self.ssl, self.settings = context, settings

    def session(self, hostname: str, authorize: Authorize | None) -> Session:
        return Session(self, hostname, authorize)


class Session(TlsSession):
    def __init__(self, context: Context, hostname: str, authorize: Authorize | None) -> None:
        self._settings, self._hostname, self._authorize = context.settings, hostname, authorize
        self._is_server = context.settings.endpoint == SERVER
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.ssl.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=self._is_server,
        )
        self._waiting: list[Payload] = []
        self._failed = False
        if not self._is_server:
            self._shake_hands()

    # -- the peer's bytes
    def receive(self, ciphertext: bytes) -> bytes:
        self._incoming.write(ciphertext)
        if not self.established:
            self._shake_hands()
        plain = []
        while self.established and not self.ended:
            try:
                piece = self._ssl.read(_PLAIN_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError:
                self._failed = True
                raise TlsError("Cannot read from TLS channel: Input/output error") from None
            self.ended = not piece
            plain.append(piece)
        return b"".join(plain)

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
            self._accept_peer()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLCertVerificationError as error:
            self._failed = True
            raise TlsError(_REASONS.get(error.verify_code, "The certificate is not trusted")) from None
        except ssl.SSLError as error:
            self._failed = True
            words = error.reason or str(error)
            raise TlsError(f"TLS handshake failed: {words.replace('_', ' ').capitalize()}.") from None
        except TlsError:
            self._failed = True
            raise
        self.established = True
        waiting, self._waiting = self._waiting, []
        self.send(waiting)

    def _accept_peer(self) -> None:
        """What is looked at when the handshake is over. Raises TlsError."""
        if not self._settings.verify_peer:
            return
        encoded = self._ssl.getpeercert(binary_form=True)
        if encoded is None:
            raise TlsError("Verify failed: No certificate was found.")
        try:
            certificate = Certificate(encoded)
        except Malformed as error:
            raise TlsError(f"Cannot import certificate: {error}") from None
        if self._authorize is not None:
            self._authorize(certificate.subject)
        if self._is_server:
            return
        if not self._hostname:
            raise TlsError("No hostname for certificate validation")
        if not certificate.is_for(self._hostname):
            raise TlsError(f"Certificate does not match the hostname {self._hostname}")

    # -- ours
    def send(self, plaintext: Sequence[Payload]) -> None:
        if not self.established:
            self._waiting += plaintext
            return
        for piece in plaintext:
            view = memoryview(piece)
            while view and not self._failed:
                view = view[self._ssl.write(view) :]

    def take_output(self) -> list[Payload]:
        """Nothing once it has failed: QEMU closes the connection without an alert."""
        if self._failed:
            return []
        ciphertext = self._outgoing.read()
        return [ciphertext] if ciphertext else []
