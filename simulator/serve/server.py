"""The event loop around a machine: sockets in, sockets out, and virtual time kept to the host's clock."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator.monitor.human_session import HumanSession
from simulator.serve.network import Listener

if TYPE_CHECKING:
    from simulator.machine import Machine
    from simulator.serve.start import Monitor

_CHUNK_BYTES = 1 << 18
_BUFFERS = 64  # in one writev; Linux takes up to 1024


class Channel:
    """One open connection of a client: `endpoint` takes `receive(bytes)`, gives `output()`, and knows `closed`."""

    def __init__(self, endpoint: Any, read_fd: int, write_fd: int, close: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self.read_fd, self.write_fd = read_fd, write_fd
        self.close = close
        self.unsent: list[memoryview] = []
        self.ended = False

    def fetch(self) -> None:
        """Take what the endpoint has to say: bytes, or a list of buffers that are not copied again."""
        buffers = getattr(self.endpoint, "output_buffers", None)
        output = buffers() if buffers is not None else [self.endpoint.output()]
        self.unsent = [memoryview(piece) for piece in output if piece]

    def sent(self, count: int) -> None:
        """The first `count` bytes have left."""
        while count:
            first = self.unsent[0]
            if count < len(first):
                self.unsent[0] = first[count:]
                return
            count -= len(first)
            del self.unsent[0]


class Server:
    """Serves one machine until it is gone. `serve` returns then; `step` does one round, for those who pump it
    themselves. The machine's clock follows the host's from the moment of construction."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.selector = selectors.DefaultSelector()
        self._start_ns = time.monotonic_ns()
        self._channels: list[Channel] = []
        self._nbd_listener: Listener | None = None
        machine.on_listen = self._listener_changed

    # -- endpoints
    def add_monitor(self, monitor: Monitor) -> None:
        """Start listening for, or talking to, a monitor's client."""
        chardev = monitor.chardev
        if chardev.listener is not None:
            listener = chardev.listener
            self.selector.register(listener.socket, selectors.EVENT_READ, lambda: self._accept_monitor(monitor, listener))
        elif chardev.connected is not None:
            self._add_socket(chardev.connected, self._new_session(monitor))
        elif chardev.read_fd is not None and chardev.write_fd is not None:
            os.set_blocking(chardev.read_fd, False)
            self._add(Channel(self._new_session(monitor), chardev.read_fd, chardev.write_fd, lambda: None))

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
        self.selector.unregister(listener.socket)

        def closed() -> None:
            sock.close()
            self.selector.register(
                listener.socket, selectors.EVENT_READ, lambda: self._accept_monitor(monitor, listener)
            )

        self._add_socket(sock, self._new_session(monitor), closed)

    def _listener_changed(self, listener: Listener | None) -> None:
        """The NBD server has begun to listen, or stopped."""
        if self._nbd_listener is not None:
            self.selector.unregister(self._nbd_listener.socket)
            self._nbd_listener.close()
        self._nbd_listener = listener
        if listener is not None:
            self.selector.register(listener.socket, selectors.EVENT_READ, self._accept_nbd)

    def _accept_nbd(self) -> None:
        assert self._nbd_listener is not None
        while True:
            try:
                sock, _ = self._nbd_listener.socket.accept()
            except OSError:
                return
            try:
                endpoint = self.machine.connect_nbd()
            except ConnectionRefusedError:
                sock.close()
                continue
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._add_socket(sock, endpoint)

    def _add_socket(self, sock: socket.socket, endpoint: Any, close: Callable[[], None] | None = None) -> None:
        sock.setblocking(False)
        self._add(Channel(endpoint, sock.fileno(), sock.fileno(), close or sock.close))

    def _add(self, channel: Channel) -> None:
        self._channels.append(channel)
        self.selector.register(channel.read_fd, selectors.EVENT_READ, lambda: self._readable(channel))
        self._send(channel)

    # -- bytes
    def _readable(self, channel: Channel) -> None:
        try:
            payload = os.read(channel.read_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            payload = b""
        if payload:
            channel.endpoint.receive(payload)
        else:
            self._drop(channel)

    def _send(self, channel: Channel) -> None:
        """Write what there is to write; what the client does not take waits until it can."""
        while not channel.ended:
            if not channel.unsent:
                channel.fetch()
                if not channel.unsent:
                    break
            try:
                channel.sent(os.writev(channel.write_fd, channel.unsent[:_BUFFERS]))
            except BlockingIOError:
                self._watch(channel, writing=True)
                return
            except OSError:
                self._drop(channel)
                return
        if not channel.ended:
            self._watch(channel, writing=False)
            if channel.endpoint.closed:
                self._drop(channel)

    def _watch(self, channel: Channel, writing: bool) -> None:
        if channel.read_fd != channel.write_fd:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        key = self.selector.get_key(channel.read_fd)
        if key.events != events:
            self.selector.modify(channel.read_fd, events, key.data)

    def _drop(self, channel: Channel) -> None:
        if channel.ended:
            return
        channel.ended = True
        self._channels.remove(channel)
        self.selector.unregister(channel.read_fd)
        channel.endpoint.receive_eof()
        channel.close()

    # -- running
    def serve(self) -> None:
        """Until the machine is gone and what it said last has been sent."""
        while not self.machine.gone:
            self.step(None)
        self._flush()

    def step(self, longest_s: float | None) -> None:
        """One round: wait for bytes or the next timer, at most `longest_s`, and let the machine run."""
        self._run()
        for key, _ in self.selector.select(self._patience_s(longest_s)):
            key.data()
        self._run()

    def _patience_s(self, longest_s: float | None) -> float | None:
        due_ns = self.machine.scheduler.next_timer_ns()
        if due_ns is None:
            return longest_s
        until_due_s = max(0, due_ns - self._now_ns()) / 1e9
        return until_due_s if longest_s is None else min(longest_s, until_due_s)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def _run(self) -> None:
        self.machine.scheduler.advance_to(self._now_ns())
        for channel in list(self._channels):
            self._send(channel)
        self._print()

    def _print(self) -> None:
        for texts, descriptor in ((self.machine.printed, 1), (self.machine.warnings, 2)):
            if texts:
                ends = "\n" if descriptor == 2 else ""
                payload = "".join(text + ends for text in texts).encode()
                texts.clear()
                try:
                    os.write(descriptor, payload)
                except OSError:
                    pass

    def _flush(self) -> None:
        """Give each client a moment to take the rest; one that does not read loses it, as with QEMU."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            for channel in list(self._channels):
                self._send(channel)
            if not any(channel.unsent for channel in self._channels):
                break
            self.selector.select(0.01)
        for channel in list(self._channels):
            self._drop(channel)
