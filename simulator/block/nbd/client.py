"""An NBD client that finds its server again. Sources: block/nbd.c, nbd/client-connection.c, 7.2."""

from __future__ import annotations

from errno import EINVAL, EIO
from os import strerror

from simulator.block.errors import QmpError
from simulator.block.nbd.link import LinkLost, NbdLink
from simulator.engine.task import Future, WaitQueue
from simulator.wire.nbd.constants import ERRNO_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.engine.scheduler import Scheduler, Timer
    from simulator.wire.nbd.messages import Payload, Reply

    Connect = Callable[[], NbdLink]

# NBDClientState
CONNECTING_WAIT, CONNECTING_NOWAIT = "connecting-wait", "connecting-nowait"
CONNECTED, QUIT = "connected", "quit"

MOST_REQUESTS = 16  # MAX_NBD_REQUESTS
_SECOND_NS = 1_000_000_000
_FIRST_PAUSE_NS, _LONGEST_PAUSE_NS = _SECOND_NS, 16 * _SECOND_NS


class Connector:
    """QEMU's thread that connects (connect_thread_func): it goes on by itself when nobody waits any more, and
    what it has got is taken by whoever asks next. `retry`: it tries again, after longer and longer pauses."""

    def __init__(self, scheduler: Scheduler, connect: Connect) -> None:
        self._scheduler, self._connect = scheduler, connect
        self.retry = False
        self._running = self._released = False
        self._made: NbdLink | None = None
        self._error: QmpError | None = None
        self._waiter: Future | None = None

    async def get(self, wait: bool) -> NbdLink:
        """A new connection. Raises QmpError; without `wait` also when none is there yet."""
        if not self._running and self._made is None:
            self._running = True
            self._scheduler.spawn(self._run(), "nbd-connect")
            if not wait:
                raise self._error or QmpError("No connection at the moment")
        if self._running and not wait:
            raise self._error or QmpError("No connection at the moment")
        if self._running:
            self._waiter = Future("a connection to an NBD server")
            await self._waiter
        if self._running:
            raise self._error or QmpError("Connection attempt cancelled by timeout")
        link, self._made = self._made, None
        if link is None:
            assert self._error is not None
            raise self._error
        return link

    def cancel_wait(self) -> None:
        """Whoever waits gives up; the attempt goes on."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result()

    def release(self) -> None:
        """The node is closed."""
        self._released = True
        if self._made is not None:
            self._made.close()

    async def _run(self) -> None:
        pause_ns = _FIRST_PAUSE_NS
        while not self._released:
            try:
                link = self._connect()
                await link.opened
            except QmpError as error:
                self._error = error
            else:
                self._made, self._error = link, None
                if self._released:
                    link.close()
                break
            if not self.retry or self._released:
                break
            await self._scheduler.sleep(pause_ns)
            pause_ns = min(2 * pause_ns, _LONGEST_PAUSE_NS)
        self._running = False
        self.cancel_wait()


class NbdClient:
    """Requests to a server that may go away. With a `reconnect_delay_s` they wait so long for it to come back
    and are made again; without one they fail at once (EIO), and each of them tries to find the server.

    `accept` looks at a new connection and says whether it will do.
    """

    def __init__(
        self, scheduler: Scheduler, connect: Connect, reconnect_delay_s: int, accept: Callable[[NbdLink], int]
    ) -> None:
        self._scheduler, self._accept = scheduler, accept
        self._connector = Connector(scheduler, connect)
        self._reconnect_delay_ns = reconnect_delay_s * _SECOND_NS
        self._delay_timer: Timer | None = None
        self._free = WaitQueue("a free place among the requests to an NBD server")
        self._in_flight = 0
        self.state = CONNECTING_WAIT
        self.link: NbdLink | None = None

    async def open(self, timeout_s: int) -> None:
        """0: one attempt. Raises QmpError, or OSError where QEMU has no words."""
        connector = self._connector
        timer = None
        if timeout_s:
            connector.retry = True
            due_ns = self._scheduler.now_ns + timeout_s * _SECOND_NS
            timer = self._scheduler.call_at(due_ns, connector.cancel_wait)
        try:
            number = self._take(await connector.get(wait=True))
        except QmpError:
            connector.release()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if number:
            connector.release()
            raise OSError(number, strerror(number))
        connector.retry = True

    def _take(self, link: NbdLink) -> int:
        """0, or the errno for which this server is not one for us."""
        number = self._accept(link)
        if number:
            link.close()
        else:
            self.link, self.state = link, CONNECTED
        return number

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.state = QUIT
        self._connector.release()

    # -- requests
    async def request(
        self, kind: int, offset: int = 0, length: int = 0, payload: Payload | None = None, flags: int = 0
    ) -> Reply:
        """Raises OSError: the server's error, or that there is no server."""
        while True:
            try:
                reply = await self._request_once(kind, offset, length, payload, flags)
            except LinkLost:
                if self.state != CONNECTING_WAIT:
                    raise
                continue
            if reply.error:
                number = reply.error if reply.error in ERRNO_NAMES else EINVAL
                raise OSError(number, strerror(number))
            return reply

    async def _request_once(
        self, kind: int, offset: int, length: int, payload: Payload | None, flags: int
    ) -> Reply:
        while self._in_flight == MOST_REQUESTS or (self.state != CONNECTED and self._in_flight):
            await self._free.wait()
        self._in_flight += 1
        try:
            if self.state in (CONNECTING_WAIT, CONNECTING_NOWAIT):
                await self._reconnect()
                self._free.wake_all()
            if self.state != CONNECTED or self.link is None:
                raise LinkLost(EIO)
            return await self.link.request(kind, offset, length, payload, flags)
        except LinkLost as lost:
            self._was_lost(lost.errno or EIO)
            raise
        finally:
            self._in_flight -= 1
            self._free.wake_one()

    def _was_lost(self, number: int) -> None:
        """nbd_channel_error: a server that broke the protocol is not asked again."""
        if number != EIO:
            self.state = QUIT
        elif self.state == CONNECTED:
            self.state = CONNECTING_WAIT if self._reconnect_delay_ns else CONNECTING_NOWAIT

    async def _reconnect(self) -> None:
        waits = self.state == CONNECTING_WAIT
        if waits and self._delay_timer is None:
            due_ns = self._scheduler.now_ns + self._reconnect_delay_ns
            self._delay_timer = self._scheduler.call_at(due_ns, self._delay_is_over)
        self.link = None
        try:
            self._take(await self._connector.get(waits))
        except QmpError:
            pass
        finally:
            if self._delay_timer is not None:
                self._delay_timer.cancel()
                self._delay_timer = None

    def _delay_is_over(self) -> None:
        self._delay_timer = None
        if self.state == CONNECTING_WAIT:
            self.stop_waiting()

    def stop_waiting(self) -> None:
        """nbd_cancel_in_flight: requests that wait for the server fail, and so do all until it is there."""
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        if self.state == CONNECTING_WAIT:
            self.state = CONNECTING_NOWAIT
        self._connector.cancel_wait()
