"""TLS as the block layer sees it: sessions that somebody with the host's `ssl` makes, and what of a peer's
certificate QEMU decides itself. Source: crypto/tlssession.c, io/channel-tls.c, authz/*.c, 7.2."""

from __future__ import annotations

import re

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from simulator.wire.nbd.messages import Payload

    # Takes the peer's distinguished name; raises TlsError if it is not allowed in.
    Authorize = Callable[[str], None]

SERVER, CLIENT = "server", "client"


class TlsError(Exception):
    """The session is over; str() is why, in QEMU's words as far as they are its own."""


class TlsSession:
    """One end of a connection: ciphertext in, plaintext out, and the other way round. No sockets."""

    established: bool = False  # the handshake is over and the peer is accepted
    ended: bool = False  # the peer said that it sends no more

    def receive(self, ciphertext: bytes) -> bytes:
        """The plaintext in it. Raises TlsError."""
        raise NotImplementedError

    def send(self, plaintext: Sequence[Payload]) -> None:
        raise NotImplementedError

    def take_output(self) -> list[Payload]:
        """Ciphertext for the peer, also of the handshake."""
        raise NotImplementedError


class NoSessionsError(Exception):
    """Sessions of this kind cannot be made here; str() is why."""


class TlsSettings:
    """What sessions are made of: `priority` is GnuTLS's string or "". By certificates: `files` are paths by
    kind ("ca-cert", "cert", "key", "ca-crl"), `password` that of the key. By `keys`, if there are any: user's
    name -> key, of a client one only."""

    __slots__ = ("endpoint", "files", "keys", "password", "priority", "verify_peer")

    def __init__(
        self,
        endpoint: str,
        priority: str,
        files: dict[str, str] | None = None,
        verify_peer: bool = False,
        password: str = "",
        keys: dict[str, bytes] | None = None,
    ) -> None:
        self.endpoint, self.priority = endpoint, priority
        self.files, self.verify_peer, self.password = files or {}, verify_peer, password
        self.keys = keys


class TlsContext:
    """Credentials that are loaded."""

    def session(self, hostname: str, authorize: Authorize | None) -> TlsSession:
        """`hostname` is what a server's certificate must be for; "" for a server's own end."""
        raise NotImplementedError


class NoSessions(TlsContext):
    """Of credentials that all else can be done with. Whoever begins a session is hung up on."""

    def __init__(self, lack: str) -> None:
        self._lack = lack

    def session(self, hostname: str, authorize: Authorize | None) -> TlsSession:
        raise TlsError(self._lack)


def authorizer(objects: dict[str, Any], identifier: str) -> Authorize:
    """By an object of type authz-simple or authz-list, looked up when the peer is there
    (qauthz_is_allowed_by_id)."""

    def authorize(name: str) -> None:
        found = objects.get(identifier)
        if found is None:
            raise TlsError(f"Cannot find QAuthZ object ID {identifier}")
        if not isinstance(found, Authorization):
            raise TlsError(f"Object '{identifier}' is not a QAuthZ subclass")
        if not found.allows(name):
            raise TlsError(f"TLS x509 authz check for {name} is denied")

    return authorize


class Authorization:
    """An object of type authz-simple or authz-list. Raises QmpError."""

    __slots__ = ("properties", "type_name")

    def __init__(self, type_name: str, properties: dict[str, Any]) -> None:
        if type_name == "authz-list":
            properties = {"policy": "deny", "rules": [], **properties}
        elif "identity" not in properties:
            # Where a schema tells of objects, it has refused this before.
            raise QmpError("The 'identity' property must be set")
        self.type_name, self.properties = type_name, properties

    def allows(self, name: str) -> bool:
        if self.type_name == "authz-simple":
            return bool(name == self.properties.get("identity"))
        for rule in self.properties["rules"]:
            if _matches(rule["match"], name, rule.get("format", "exact")):
                return bool(rule["policy"] == "allow")
        return bool(self.properties["policy"] == "allow")


def _matches(pattern: str, name: str, kind: str) -> bool:
    """A glob has only * and ?."""
    if kind == "exact":
        return pattern == name
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name, re.DOTALL) is not None


class TlsCredentials:
    """An object of type tls-creds-x509, -psk or -anon. `context` is None where nobody makes sessions, and
    `lack` says why not, for whoever wants one."""

    __slots__ = ("context", "endpoint", "lack", "properties", "type_name")

    def __init__(self, type_name: str, properties: dict[str, Any]) -> None:
        self.type_name, self.properties = type_name, properties
        self.endpoint: str = properties.get("endpoint", CLIENT)
        self.context: TlsContext | None = None
        self.lack = ""


def find_context(objects: dict[str, Any], identifier: str, endpoint: str) -> TlsContext:
    """Of credentials for this end. Raises QmpError (nbd_get_tls_creds)."""
    found = objects.get(identifier)
    if found is None:
        raise QmpError(f"No TLS credentials with id '{identifier}'")
    if not isinstance(found, TlsCredentials):
        raise QmpError(f"Object with id '{identifier}' is not TLS credentials")
    if found.endpoint != endpoint:
        raise QmpError(f"Expected TLS credentials for a {endpoint} endpoint")
    if found.context is None:
        raise QmpError(f"TLS credentials '{identifier}': {found.lack}")
    return found.context
