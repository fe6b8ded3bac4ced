"""The event loop around a machine: sockets in, sockets out, and virtual time kept to the host's clock."""

from __future__ import annotations

import os
import selectors
import socket
import time
from functools import partial

from simulator.monitor import dispatch
from simulator.monitor.human_session import HumanSession
from simulator.monitor.session import Session
from simulator.serve.network import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.engine.task import Task
    from simulator.machine import Machine
    from simulator.serve.outgoing import Outgoing
    from simulator.serve.process import Signals
    from simulator.serve.start import Monitor

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_NBD_CHUNK_BYTES = 1 << 18
# Small, because each request in it may have a long answer, and all of them are kept until they are sent.
_MONITOR_CHUNK_BYTES = 4096
_BUFFERS = 64  # in one writev; Linux takes up to 1024
# Room for more than one large reply, so that a client reads one while the next is written.
_SEND_BUFFER_BYTES = 1 << 20
_LARGE_BYTES = 1 << 16
_MOST_UNSENT_BYTES = 1 << 22
_MOST_DESCRIPTORS = 16  # in one message (TCP_MAX_FDS)
_LAST_WORDS_S = 1.0


class Channel:
    """One open connection of a client: `endpoint` takes `receive(bytes)`, gives `output()`, and knows
    `closed`. It may have `output_buffers`. `wants_input` and `stall` keep in bounds what a client can
    make us hold."""

    def __init__(
        self, endpoint: Any, read_fd: int, write_fd: int, chunk_bytes: int, close: Callable[[], None]
    ) -> None:
        self.endpoint = endpoint
        self.read_fd, self.write_fd = read_fd, write_fd
        self.chunk_bytes = chunk_bytes
        self.close = close
        self.unsent: list[memoryview] = []
        self.ended = False
        self.socket: socket.socket | None = None  # one over which descriptors may be passed
        self.reads = True  # until end of file
        self._buffers = getattr(endpoint, "output_buffers", None)
        self.is_nbd = self._buffers is not None

    def read(self) -> bytes:
        """b"" at the end. Raises OSError."""
        if self.socket is None:
            return os.read(self.read_fd, self.chunk_bytes)
        payload, descriptors, _, _ = socket.recv_fds(self.socket, self.chunk_bytes, _MOST_DESCRIPTORS)
        if descriptors:
            for unused in self.endpoint.passed:
                os.close(unused)
            self.endpoint.passed[:] = descriptors
        return payload

    def fetch(self) -> bool:
        """Take what the endpoint has to say: bytes, or a list of buffers that are not copied again."""
        output = self._buffers() if self._buffers is not None else [self.endpoint.output()]
        self.unsent += [memoryview(piece) for piece in output if piece]
        return bool(self.unsent)

    def send_early(self, least_bytes: int = _LARGE_BYTES) -> None:
        """A reply is there while other requests are still worked on. A large one is sent at once: the
        client can read it meanwhile, and its bytes are still in the processor's cache. Errors are for the
        round's end."""
        if self.ended:
            return
        self.fetch()
        if sum(map(len, self.unsent)) >= least_bytes:
            try:
                count = os.writev(self.write_fd, self.unsent[:_BUFFERS])
            except OSError:
                count = 0
            self.sent(count)
            if sum(map(len, self.unsent)) >= _MOST_UNSENT_BYTES:
                self.endpoint.stall(True)

    def sent(self, count: int) -> None:
        """The first `count` bytes have left."""
        while count:
            first = self.unsent[0]
            if count < len(first):
                self.unsent[0] = first[count:]
                return
            count -= len(first)
            del self.unsent[0]

    @property
    def may_read(self) -> bool:
        """Not from a client that leaves our answers lying: they would pile up here."""
        return self.reads and not self.unsent and bool(self.endpoint.wants_input)


class Server:
    """Serves one machine until it is gone. `serve` returns then; `step` does one round, for those who pump it
    themselves. The machine's clock follows the host's from the moment of construction."""

    def __init__(self, machine: Machine, program: str = "qemu") -> None:
        self.machine = machine
        # Not epoll, which takes no files: standard input may be one.
        self.selector = selectors.PollSelector()
        self._program = program
        self._start_ns = time.monotonic_ns()
        self._channels: list[Channel] = []
        self._events: dict[int, int] = {}  # descriptor: what the selector watches
        self._nbd_listener: Listener | None = None
        self._signals: Signals | None = None
        machine.on_listen = self._listener_changed

    # -- endpoints
    def add_monitor(self, monitor: Monitor) -> None:
        """Start listening for, or talking to, a monitor's client."""
        chardev = monitor.chardev
        listener = chardev.listener
        if chardev.connected is not None:
            self._add_monitor_socket(monitor, listener, chardev.connected)
        elif listener is not None:
            self._watch(
                listener.socket.fileno(), _READ, lambda events: self._accept_monitor(monitor, listener)
            )
        elif chardev.read_fd is not None and chardev.write_fd is not None:
            os.set_blocking(chardev.read_fd, False)
            session = self._new_session(monitor)
            self._add(Channel(session, chardev.read_fd, chardev.write_fd, _MONITOR_CHUNK_BYTES, lambda: None))

    def _new_session(self, monitor: Monitor) -> Any:
        if monitor.mode == "control":
            return self.machine.connect_monitor(monitor.pretty)
        return HumanSession(self.machine)

    def _accept_monitor(self, monitor: Monitor, listener: Listener) -> None:
        try:
            sock, _ = listener.socket.accept()
        except OSError:
            return
        # A character device has one client; the next one waits in the socket's queue until this one has left.
        self._watch(listener.socket.fileno(), 0, None)
        self._add_monitor_socket(monitor, listener, sock)

    def _add_monitor_socket(self, monitor: Monitor, listener: Listener | None, sock: socket.socket) -> None:
        monitor.chardev.has_client = True

        def closed() -> None:
            sock.close()
            monitor.chardev.has_client = False
            if listener is not None and not self.machine.gone:
                self._watch(
                    listener.socket.fileno(), _READ, lambda events: self._accept_monitor(monitor, listener)
                )

        self._add_socket(sock, self._new_session(monitor), _MONITOR_CHUNK_BYTES, closed)

    def _listener_changed(self, listener: Listener | None) -> None:
        """The NBD server has begun to listen, or stopped. At the machine's end the socket's file stays
        behind."""
        if self._nbd_listener is not None:
            self._watch(self._nbd_listener.socket.fileno(), 0, None)
            if self.machine.ending:
                self._nbd_listener.abandon()
            else:
                self._nbd_listener.close()
        self._nbd_listener = listener
        self._watch_nbd_listener()

    def _watch_nbd_listener(self) -> None:
        """While there is room for a client; the others stay in the socket's queue, as QEMU leaves them."""
        listener, server = self._nbd_listener, self.machine.nbd_server
        if listener is not None:
            wanted = _READ if server is not None and server.has_room else 0
            self._watch(listener.socket.fileno(), wanted, lambda events: self._accept_nbd())

    def _accept_nbd(self) -> None:
        server = self.machine.nbd_server
        while self._nbd_listener is not None and server is not None and server.has_room:
            try:
                sock, _ = self._nbd_listener.socket.accept()
            except OSError:
                return
            try:
                endpoint = self.machine.connect_nbd()
            except ConnectionRefusedError:
                sock.close()
                continue
            if sock.family == socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._add_socket(sock, endpoint, _NBD_CHUNK_BYTES, sock.close)

    def add_outgoing(self, sock: socket.socket, endpoint: Outgoing) -> None:
        """The machine has connected to a server."""
        self._add_socket(sock, endpoint, _NBD_CHUNK_BYTES, sock.close)

    def watch_listener(self, listener: socket.socket, ready: Callable[[], None] | None) -> None:
        """The machine listens at something, or (`ready` None) no longer does."""
        if ready is None:
            self._watch(listener.fileno(), 0, None)
        else:
            self._watch(listener.fileno(), _READ, lambda events: ready())

    def _add_socket(
        self, sock: socket.socket, endpoint: Any, chunk_bytes: int, close: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        channel = Channel(endpoint, sock.fileno(), sock.fileno(), chunk_bytes, close)
        if isinstance(endpoint, Session) and sock.family == socket.AF_UNIX:
            channel.socket = sock
        self._add(channel)

    def _add(self, channel: Channel) -> None:
        self._channels.append(channel)
        if channel.is_nbd:
            channel.endpoint.on_output = channel.send_early
        elif isinstance(channel.endpoint, HumanSession):
            # The end of the line is shown before what the command prints on standard output.
            channel.endpoint.on_line = partial(channel.send_early, 1)
        self._send(channel)

    # -- bytes
    def _watch(self, descriptor: int, events: int, ready: Callable[[int], None] | None) -> None:
        """Have the selector look for `events`, 0 for none, and call `ready` with those that came."""
        now = self._events.get(descriptor, 0)
        if events == now:
            return
        if not events:
            self.selector.unregister(descriptor)
            del self._events[descriptor]
            return
        if now:
            self.selector.modify(descriptor, events, ready)
        else:
            self.selector.register(descriptor, events, ready)
        self._events[descriptor] = events

    def _watch_channel(self, channel: Channel) -> None:
        reading = _READ if channel.may_read else 0
        writing = _WRITE if channel.unsent else 0
        if channel.read_fd == channel.write_fd:
            self._watch(channel.read_fd, reading | writing, lambda events: self._ready(channel, events))
        else:
            self._watch(channel.read_fd, reading, lambda events: self._ready(channel, events))
            self._watch(channel.write_fd, writing, lambda events: self._ready(channel, events))

    def _ready(self, channel: Channel, events: int) -> None:
        # Writing is what every round does anyway.
        if not events & _READ or channel.ended:
            return
        try:
            payload = channel.read()
        except BlockingIOError:
            return
        except OSError:
            payload = b""
        if payload:
            channel.endpoint.receive(payload)
        elif channel.read_fd == channel.write_fd:
            self._drop(channel)
        else:
            channel.reads = False

    def _send(self, channel: Channel) -> None:
        """Write what there is to write; what the client does not take waits until it can."""
        while not channel.ended and (channel.unsent or channel.fetch()):
            try:
                channel.sent(os.writev(channel.write_fd, channel.unsent[:_BUFFERS]))
            except BlockingIOError:
                break
            except OSError:
                self._drop(channel)
                return
        if channel.ended:
            return
        if not channel.is_nbd or not channel.unsent:
            channel.endpoint.stall(bool(channel.unsent))
        if channel.endpoint.closed and not channel.unsent:
            self._drop(channel)
        else:
            self._watch_channel(channel)

    def _drop(self, channel: Channel) -> None:
        if channel.ended:
            return
        channel.ended = True
        self._channels.remove(channel)
        for descriptor in (channel.read_fd, channel.write_fd):
            self._watch(descriptor, 0, None)
        channel.unsent.clear()
        self.machine.disconnect(channel.endpoint)
        channel.close()

    # -- running
    def heed(self, signals: Signals) -> None:
        """End the machine in order when a signal asks for it."""
        self._signals = signals
        self._watch(signals.descriptor, _READ, lambda events: self._end_by_signal())

    def _end_by_signal(self) -> None:
        assert self._signals is not None
        self._watch(self._signals.descriptor, 0, None)
        if not self.machine.storage_daemon:
            self.machine.warn(f"{self._program}: {self._signals.describe()}")
        self.machine.end_soon("host-signal")

    def serve(self) -> None:
        """Until the machine is gone and what it said last has been sent."""
        while not self.machine.gone and dispatch.import_another():
            # While nobody wants anything, a family of commands at a time.
            while not self.machine.gone and (self.selector.select(0.0) or self._patience_s(None) == 0.0):
                self.step(None)
        while not self.machine.gone:
            self.step(None)
        self._say_last_words()

    def run_until(self, task: Task) -> None:
        """Serve until `task` has ended, and raise what it raised; or until the machine is gone."""
        self._run()
        while not task.done() and not self.machine.gone:
            self.step(None)
        if task.done():
            task.result()

    def step(self, longest_s: float | None) -> None:
        """One round: wait for bytes or the next timer, at most `longest_s`, and let the machine run."""
        self._run()
        if self.machine.gone:
            return
        for key, events in self.selector.select(self._patience_s(longest_s)):
            # One of those before it may have closed it.
            if key.fd in self._events:
                key.data(events)
        self._run()

    def _patience_s(self, longest_s: float | None) -> float | None:
        if self.machine.scheduler.has_ready():
            return 0.0
        due_ns = self.machine.scheduler.next_timer_ns()
        if due_ns is None:
            return longest_s
        until_due_s = max(0, due_ns - self._now_ns()) / 1e9
        return until_due_s if longest_s is None else min(longest_s, until_due_s)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def _run(self) -> None:
        self.machine.scheduler.advance_to(self._now_ns())
        # Before the replies: who has the reply to a qemu-io command may look for what it printed.
        self.print()
        for channel in list(self._channels):
            self._send(channel)
        self._watch_nbd_listener()

    def print(self) -> None:
        """What the machine has to say on the standard streams."""
        for texts, descriptor, end in ((self.machine.printed, 1, ""), (self.machine.warnings, 2, "\n")):
            if texts:
                payload = memoryview("".join(text + end for text in texts).encode())
                texts.clear()
                try:
                    while payload:
                        payload = payload[os.write(descriptor, payload) :]
                except OSError:
                    pass

    def _say_last_words(self) -> None:
        """Give each client a moment to take the rest; one that does not read loses it, as with QEMU.

        Connections end with the process: QEMU closes its monitors last of all, and a client that takes the
        reply to quit should find the time to close first (else qmp-shell shows an EOFError)."""
        deadline = time.monotonic() + _LAST_WORDS_S
        for descriptor in list(self._events):
            self._watch(descriptor, 0, None)
        for channel in self._channels:
            channel.reads = False
        while time.monotonic() < deadline:
            for channel in list(self._channels):
                self._send(channel)
            if not self._events:
                break
            self.selector.select(0.01)
        self.print()
