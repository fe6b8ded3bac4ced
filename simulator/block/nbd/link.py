"""One connection to an NBD server: the wire's client on a stream of the host. Source: nbd/client.c, 7.2."""

from __future__ import annotations

from errno import EINVAL, EIO
from os import strerror

from simulator.block.errors import QmpError
from simulator.block.nbd.tls import TlsError
from simulator.engine.task import Future
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import EXPORT_NAME_REPLY, GREETING, open_export
from simulator.wire.nbd.messages import (
    ConnectionEnded,
    OptionAnswered,
    ProtocolError,
    Ready,
    Reply,
    StartTls,
)
from simulator.wire.nbd.server_options import OPTION_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.host import Host
    from simulator.block.nbd.tls import TlsSession
    from simulator.wire.nbd.messages import Payload

# What is said when an option is refused (nbd_handle_reply_err), followed by the option.
_REFUSALS = {
    nbd.REP_ERR_POLICY: "Denied by server for option",
    nbd.REP_ERR_INVALID: "Invalid parameters for option",
    nbd.REP_ERR_PLATFORM: "Server lacks support for option",
    nbd.REP_ERR_TLS_REQD: "TLS negotiation required before option",
    nbd.REP_ERR_SHUTDOWN: "Server shutting down before option",
    nbd.REP_ERR_BLOCK_SIZE_REQD: "Server requires INFO_BLOCK_SIZE for option",
}
# Of these a refusal is an error.
_STRICT = (nbd.OPT_GO, nbd.OPT_STARTTLS)

# What is told to have been missing when a server goes in the middle of the handshake (nbd_read).
_AWAITED = {GREETING: "initial magic", EXPORT_NAME_REPLY: "export length"}
_END = "Unexpected end-of-file before all data were read"
_LATE = "Failed to read option reply: "
_TLS_END = f"{_LATE}Cannot read from TLS channel: Software caused connection abort"
_TLS_HANDSHAKE_END = "TLS handshake failed: The TLS connection was non-properly terminated."


def _wrong_magic(greeting: bytes) -> str:
    which, at = ("server", 8) if greeting[:8] == nbd.INIT_MAGIC else ("initial", 0)
    return f"Bad {which} magic received: 0x{int.from_bytes(greeting[at : at + 8], 'big'):x}"


class LinkLost(OSError):
    """The connection is gone, or the server broke the protocol (EINVAL): no request will be answered."""

    def __init__(self, number: int) -> None:
        super().__init__(number, strerror(number))


class NbdLink:
    """Negotiates at once; `opened` is finished with a Ready, or with a QmpError in QEMU's words.

    `context` is the metadata context that block status is to tell of. `new_tls` makes a session, None for a
    connection without TLS. `extended`: asks for extended headers. Raises QmpError if there is no server.
    """

    def __init__(
        self,
        host: Host,
        address: dict[str, Any],
        export: str,
        context: str,
        new_tls: Callable[[], TlsSession] | None = None,
        extended: bool = False,
    ) -> None:
        self.wire = open_export(
            export, (context,), export_name=True, tls=new_tls is not None, extended=extended
        )
        self._new_tls = new_tls
        self._tls: TlsSession | None = None
        self.opened = Future(f"an NBD server to open export '{export}'")
        self._answers: dict[int, Future] = {}
        self._lost = 0  # errno
        self._stream = host.connect(address, self._receive)

    @property
    def ready(self) -> Ready:
        return self.wire.ready

    # -- bytes
    def _receive(self, payload: bytes) -> None:
        """From the server; nothing is its end."""
        tls = self._tls
        if tls is None:
            self._take(payload)
        elif not payload:
            self._lose(EIO, _TLS_END if tls.established else _TLS_HANDSHAKE_END)
        else:
            self._receive_by_tls(tls, payload)
        self._flush()

    def _receive_by_tls(self, tls: TlsSession, ciphertext: bytes) -> None:
        was_established = tls.established
        try:
            plaintext = tls.receive(ciphertext)
        except TlsError as error:
            self._lose(EIO, f"{_LATE}{error}" if was_established else str(error))
            return
        if tls.established and not was_established:
            self.wire.tls_started()
        if plaintext:
            self._take(plaintext)
        if tls.ended:
            self._take(b"")

    def _start_tls(self, received: bytes) -> None:
        assert self._new_tls is not None
        try:
            self._tls = self._new_tls()
        except TlsError as error:
            self._lose(EIO, str(error))
            return
        if received:
            self._receive_by_tls(self._tls, received)

    def _take(self, payload: bytes) -> None:
        awaited = self.wire.state
        try:
            events = self.wire.receive_data(payload) if payload else self.wire.receive_eof()
        except ProtocolError as error:
            is_greeting = awaited == GREETING and len(payload) >= 16
            self._lose(EINVAL, _wrong_magic(payload) if is_greeting else str(error))
            return
        for event in events:
            if isinstance(event, Reply):
                self._answers.pop(event.request.cookie).set_result(event)
            elif isinstance(event, Ready):
                self._opened(event)
            elif isinstance(event, OptionAnswered):
                self._answered(event)
            elif isinstance(event, StartTls):
                self._start_tls(event.received)
            elif isinstance(event, ConnectionEnded):
                self._lose(EIO, f"Failed to read {_AWAITED.get(awaited, awaited)}: {_END}")

    def _flush(self) -> None:
        buffers = self.wire.take_output()
        if self._tls is not None:
            self._tls.send(buffers)
            buffers = self._tls.take_output()
        if buffers:
            self._stream.send(buffers)

    def _opened(self, ready: Ready) -> None:
        unit = ready.block_sizes[0] if ready.block_sizes else 1
        if ready.size % unit:
            self._refuse(f"export size {ready.size} is not multiple of minimum block size {unit}")
        elif unit > 1:
            # QEMU would read around requests that are smaller.
            self._refuse(f"an NBD server with a minimum block size of {unit} is not simulated")
        elif not self.opened.done():
            self.opened.set_result(ready)

    def _answered(self, answer: OptionAnswered) -> None:
        if answer.option == nbd.OPT_STARTTLS and answer.error == nbd.REP_ERR_UNSUP:
            self._refuse("Server don't support STARTTLS option")
        # Of the other options before GO a refusal means that the server has none such.
        elif answer.option in _STRICT and answer.error not in (0, nbd.REP_ERR_UNSUP):
            option = f"{answer.option} ({OPTION_NAMES[answer.option]})"
            unknown = "Unknown error code when asking for option"
            words = f"{_REFUSALS.get(answer.error, unknown)} {option}"
            if answer.error == nbd.REP_ERR_UNKNOWN:
                words = "Requested export not available"
            advice = "Did you forget a valid tls-creds?\n" if answer.error == nbd.REP_ERR_TLS_REQD else ""
            self._refuse(words, f"{advice}server reported: {answer.text}\n" if answer.text else advice)

    def _refuse(self, words: str, hint: str = "") -> None:
        if not self.opened.done():
            error = QmpError(words)
            error.hint = hint
            self.opened.set_exception(error)

    def _lose(self, number: int, why: str) -> None:
        self._lost = number
        self._refuse(why)
        self._stream.close()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.set_exception(LinkLost(number))

    # -- requests
    async def request(
        self, kind: int, offset: int, length: int, payload: Payload | None, flags: int
    ) -> Reply:
        """Raises LinkLost."""
        if self._lost:
            raise LinkLost(self._lost)
        request = self.wire.request(kind, offset, length, payload, flags)
        answer = self._answers[request.cookie] = Future("a reply of the NBD server")
        self._flush()
        reply: Reply = await answer
        return reply

    def close(self) -> None:
        """Say so, if the server is still there, and go."""
        if not self._lost:
            self.wire.disconnect()
            self._flush()
            self._lost = EIO
            self._stream.close()
