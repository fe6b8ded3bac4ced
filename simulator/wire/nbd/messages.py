"""What the two ends of an NBD connection tell their owners, and what a server's owner tells it."""

from __future__ import annotations

from functools import lru_cache

from simulator.wire.nbd.constants import CMD_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Payload = bytes | bytearray | memoryview

MEBIBYTE = 1 << 20
MAX_BLOCK_BYTES = 32 * MEBIBYTE  # NBD_MAX_BUFFER_SIZE


class ServerPolicy:
    """What differs between versions of QEMU's server. The defaults are 7.2 (nbd/server.c,
    include/block/nbd.h). `extended_headers`: as since 8.2, which for a block status also looks at contexts
    before it looks at the length.
    """

    __slots__ = (
        "answers_bad_magic",
        "extended_headers",
        "handshake_limit_ns",
        "list_needs_structured",
        "max_extents",
        "max_option_bytes",
        "max_payload_bytes",
        "max_requests_in_flight",
        "max_string_bytes",
        "texts",
    )

    def __init__(
        self,
        max_option_bytes: int = 32 * MEBIBYTE,
        max_payload_bytes: int = 32 * MEBIBYTE,
        max_string_bytes: int = 4096,
        max_extents: int = MEBIBYTE // 8,
        max_requests_in_flight: int = 16,
        handshake_limit_ns: int | None = None,
        texts: dict[str, str] | None = None,
        list_needs_structured: bool = False,
        answers_bad_magic: bool = True,
        extended_headers: bool = False,
    ) -> None:
        self.extended_headers = extended_headers
        self.answers_bad_magic = answers_bad_magic
        self.list_needs_structured = list_needs_structured
        self.max_option_bytes = max_option_bytes
        self.max_payload_bytes = max_payload_bytes
        self.max_string_bytes = max_string_bytes
        self.max_extents = max_extents  # of one context in one reply
        self.max_requests_in_flight = max_requests_in_flight  # QEMU reads no further; the owner keeps to it
        self.handshake_limit_ns = handshake_limit_ns  # the owner's clock, the owner's job
        self.texts = TEXTS if texts is None else TEXTS | texts


# What QEMU says to clients, and (from "bad-magic" on) why it closed a connection.
TEXTS = {
    "inconsistent-lengths": "Inconsistent lengths in option {option}",
    "embedded-nul": "Unexpected embedded NUL in option {option}",
    "name-length": "Invalid name length: {length}",
    "option-length": "option '{option}' has unexpected length",
    "unsupported-option": "Unsupported option {code} ({option})",
    "no-export": "export '{name}' not present",
    "block-size-required": "request NBD_INFO_BLOCK_SIZE to use this export",
    "no-tls": "TLS not configured",
    "tls-twice": "TLS already enabled",
    "before-tls": "Option 0x{code:x} not permitted before TLS",
    "unsupported-before-tls": "Unsupported option 0x{code:x}",
    "structured-twice": "structured reply already negotiated",
    "extended-already": "extended headers already negotiated",
    "not-structured": "request option '{option}' when structured reply is not negotiated",
    "too-long": "len ({length} ) is larger than max len ({limit})",
    "read-only": "Export is read-only",
    "past-end": "operation past EOF; From: {offset}, Len: {length}, Size: {size}",
    "flags": "unsupported flags for command {command} (got 0x{flags:x})",
    "no-length": "need non-zero length",
    "no-contexts": "CMD_BLOCK_STATUS not negotiated",
    "no-such-contexts": "CMD_BLOCK_STATUS payload not valid",
    "request-type": "invalid request type ({kind}) received",
    "request-magic": "invalid magic (got 0x{magic:x})",
    "bad-magic": "Bad magic received",
    "client-flags": "Unknown client flags 0x{flags:x} received",
    "name-too-long": "Bad length received",
    "export-not-found": "export not found",
    "name-after-extended": "Extended headers already negotiated",
    "intermediate": "Request handling failed in intermediate state",
    "read-failed": "Failed to send reply: reading from file failed: {reason}",
    "unread-option": "nbd_negotiate_options: Assertion `!client->optlen' failed.",
    "unprepared-payload": (
        "nbd_co_block_status_payload_read: Assertion `client->contexts.exp == client->exp' failed."
    ),
}

# What QEMU adds to the errno when the block layer fails a request (nbd/server.c:nbd_handle_request,
# 7.2), by command.
FAILED_TEXTS = {
    0: "reading from file failed",
    1: "writing to file failed",
    3: "flush failed",
    4: "discard failed",
    5: "caching data failed",
    6: "writing to file failed",
    7: "can't get block status",
}


class ExportInfo:
    """An export as the server announces it.

    `size` bytes, `flags` FLAG_* without SEND_DF, which the connection adds. `contexts` full names
    in the order in which QEMU lists them: base:allocation, qemu:allocation-depth,
    qemu:dirty-bitmap:NAME... `export` is the owner's.
    """

    __slots__ = (
        "contexts",
        "description",
        "export",
        "flags",
        "max_block",
        "min_block",
        "name",
        "preferred_block",
        "size",
    )

    def __init__(
        self,
        name: str,
        size: int,
        flags: int,
        description: str | None = None,
        min_block: int = 1,
        preferred_block: int = 4096,
        max_block: int = MAX_BLOCK_BYTES,
        contexts: tuple[str, ...] = ("base:allocation",),
        export: Any = None,
    ) -> None:
        self.name = name
        self.size = size
        self.flags = flags
        self.description = description
        self.min_block = min_block
        self.preferred_block = preferred_block  # never announced below the minimum
        self.max_block = max_block
        self.contexts = contexts
        self.export = export

    def context_ids(self) -> dict[str, int]:
        """QEMU's numbers: base:allocation 0, qemu:allocation-depth 1, the bitmaps from 2."""
        ids, bitmap_id = {}, 2
        for name in self.contexts:
            if name in _FIXED_CONTEXT_IDS:
                ids[name] = _FIXED_CONTEXT_IDS[name]
            else:
                ids[name] = bitmap_id
                bitmap_id += 1
        return ids


_FIXED_CONTEXT_IDS = {"base:allocation": 0, "qemu:allocation-depth": 1}


class ProtocolError(Exception):
    """The peer broke the protocol; says what was expected and what came."""


# -- events of both roles


class ConnectionEnded:
    """Nothing more will come. `reason` is "" for an orderly end, else what QEMU writes to its log.

    `aborts`: here QEMU fails an assertion and the whole process dies.
    """

    __slots__ = ("aborts", "reason")

    def __init__(self, reason: str, aborts: bool = False) -> None:
        self.reason = reason
        self.aborts = aborts


class StartTls:
    """From here on both ends speak through TLS. The owner makes a session, gives it `received` (what came
    behind the option already) and the bytes that follow, and says `tls_started` when the handshake is over.
    """

    __slots__ = ("received",)

    def __init__(self, received: bytes) -> None:
        self.received = received


# -- events of the server


class ExportOpened:
    """The client is in transmission phase on `export`. `contexts`: negotiated name -> id, in reply order."""

    __slots__ = ("contexts", "export")

    def __init__(self, export: ExportInfo, contexts: dict[str, int]) -> None:
        self.export = export
        self.contexts = contexts


class Request:
    """A request: CMD_* `kind`, CMD_FLAG_* `flags`. On the server it has passed QEMU's checks, and
    is answered once.

    `payload` of a write; it may be a view of the received bytes, so copy what is to live on. `contexts` that
    a block status asks for: name -> id, of those that were negotiated.
    """

    __slots__ = ("answered", "contexts", "cookie", "flags", "kind", "length", "offset", "payload")

    def __init__(
        self, kind: int, flags: int, cookie: int, offset: int, length: int, payload: Payload | None = None
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.cookie = cookie
        self.offset = offset
        self.length = length
        self.payload = payload
        self.contexts: dict[str, int] = {}
        self.answered = False


# -- events of the client


class OptionAnswered:
    """The final reply to an option. `error` 0 or REP_ERR_*; `text` the server's message to an error.

    `names` of LIST: (name, description); `contexts` of LIST_ and SET_META_CONTEXT: name -> id.
    """

    __slots__ = ("contexts", "error", "names", "option", "text")

    def __init__(self, option: int) -> None:
        self.option = option
        self.error = 0
        self.text = ""
        self.names: list[tuple[str, str]] = []
        self.contexts: dict[str, int] = {}


class Ready:
    """The client is in transmission phase. block_sizes None if the server did not say (minimum,
    preferred, maximum). `extended`: by extended headers, which are structured replies too.
    """

    __slots__ = (
        "block_sizes",
        "contexts",
        "description",
        "extended",
        "flags",
        "name",
        "size",
        "structured",
    )

    def __init__(self) -> None:
        self.size = -1
        self.flags = 0
        self.structured = self.extended = False
        self.contexts: dict[str, int] = {}
        self.block_sizes: tuple[int, int, int] | None = None
        self.name: str | None = None
        self.description: str | None = None


@lru_cache(maxsize=8)
def zeroes(length: int) -> bytes:
    """The same object each time: who reads a whole disk in equal pieces gets most of them as holes. Such
    memory is not touched, and comparing an object with itself takes no time."""
    return bytes(length)


class Reply:
    """A complete answer to `request`. `error` 0 or an errno, `text` and `error_offset` if the
    server gave them.

    `payload` of a successful read; `extents`: context id -> [(length, flags)] of a block status.
    """

    __slots__ = ("_covered", "error", "error_offset", "extents", "payload", "request", "seen_chunk", "text")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.error = 0
        self.text = ""
        self.error_offset: int | None = None
        self.payload: Payload = b""
        self.extents: dict[int, list[tuple[int, int]]] = {}
        self.seen_chunk = False
        self._covered: list[tuple[int, int]] = []

    def place(self, offset: int, chunk: Payload | None, length: int) -> None:
        """Put a piece of a read in its place; None is a hole. Raises ProtocolError."""
        request = self.request
        start = offset - request.offset
        if start < 0 or start + length > request.length:
            expected = f"{request.offset}+{request.length}"
            raise ProtocolError(f"expected a chunk within the read of {expected}, got {offset}+{length}")
        if length == request.length and not self._covered:
            self.payload = zeroes(length) if chunk is None else chunk
        else:
            if not isinstance(self.payload, bytearray):
                whole = self.payload
                self.payload = bytearray(request.length)
                self.payload[: len(whole)] = whole
            if chunk is not None:
                self.payload[start : start + length] = chunk
        self._covered.append((start, start + length))

    def check_complete(self) -> None:
        """Every byte of the read came, and once. Raises ProtocolError."""
        covered, position = self._covered, 0
        if len(covered) > 1:
            covered.sort()
        for start, end in covered:
            if start != position:
                problem = "twice" if start < position else "not at all"
                raise ProtocolError(
                    f"the reply to a read holds offset {self.request.offset + min(start, position)} {problem}"
                )
            position = end
        if position != self.request.length and self.request.kind == CMD_READ:
            raise ProtocolError(f"the reply to a read of {self.request.length} bytes ends after {position}")
