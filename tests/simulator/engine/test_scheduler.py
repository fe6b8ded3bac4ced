"""Tasks, time and order: what runs when, and that a seed is a whole order."""

import pytest

from simulator.engine.chance import Chance
from simulator.engine.domain import Domain
from simulator.engine.scheduler import Scheduler, Stuck
from simulator.engine.task import Future, Killed, Lock, WaitQueue, finish_now, interleave


def order_of(seed: int | None, tasks: int = 6, turns: int = 4) -> list[int]:
    scheduler = Scheduler(Chance(seed) if seed is not None else None)
    order: list[int] = []

    async def walk(number: int) -> None:
        for _ in range(turns):
            order.append(number)
            await interleave()

    for number in range(tasks):
        scheduler.spawn(walk(number), f"walker {number}")
    scheduler.run_ready()
    return order


def test_without_chance_tasks_take_turns() -> None:
    assert order_of(None) == [*range(6)] * 4


def test_a_seed_is_an_order_and_another_seed_another() -> None:
    orders = {seed: order_of(seed) for seed in range(20)}
    assert all(order_of(seed) == order for seed, order in orders.items())
    assert len({tuple(order) for order in orders.values()}) == 20
    assert all(sorted(order) == sorted(order_of(None)) for order in orders.values())


def test_splitmix64_is_the_published_one() -> None:
    # Reference values of SplitMix64 for seed 1234567 (as published with the generator's C source).
    chance = Chance(1234567)
    drawn = [chance.next64() for _ in range(3)]
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_time_jumps_to_the_next_timer_and_never_back() -> None:
    scheduler = Scheduler()
    seen: list[tuple[str, int]] = []

    async def wait(name: str, duration_ns: int) -> None:
        await scheduler.sleep(duration_ns)
        seen.append((name, scheduler.now_ns))

    first = scheduler.spawn(wait("long", 45_000_000_000), "long")
    scheduler.spawn(wait("short", 10), "short")
    scheduler.spawn(wait("equal", 10), "equal")
    scheduler.run_until(first)
    assert seen == [("short", 10), ("equal", 10), ("long", 45_000_000_000)]


def test_advance_to_stops_at_its_time() -> None:
    scheduler = Scheduler()
    fired: list[int] = []
    for when in (5, 10, 15):
        scheduler.call_at(when, lambda when=when: fired.append(when))
    scheduler.advance_to(10)
    assert fired == [5, 10]
    assert scheduler.now_ns == 10
    assert scheduler.next_timer_ns() == 15


def test_a_wait_that_nothing_can_end_is_told_at_once() -> None:
    scheduler = Scheduler()
    with pytest.raises(Stuck, match="the reply of a dead server"):
        scheduler.run_until(Future("the reply of a dead server"))


def test_a_task_that_fails_unheard_is_not_silent() -> None:
    scheduler = Scheduler()

    async def fail() -> None:
        raise ValueError("defect")

    scheduler.spawn(fail(), "failing")
    with pytest.raises(ValueError, match="defect"):
        scheduler.run_ready()


def test_who_awaits_a_task_gets_its_value_or_its_exception() -> None:
    scheduler = Scheduler()

    async def value() -> int:
        await interleave()
        return 7

    async def fail() -> None:
        await interleave()
        raise OSError(5, "EIO")

    async def main() -> int:
        with pytest.raises(OSError, match="EIO"):
            await scheduler.spawn(fail(), "failing")
        return await scheduler.spawn(value(), "value") + 1

    assert scheduler.run_until(scheduler.spawn(main(), "main")) == 8


def test_enter_runs_up_to_the_first_wait() -> None:
    scheduler = Scheduler()
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")
        await interleave()
        seen.append("ended")

    scheduler.enter(work(), "work")
    assert seen == ["begun"]
    scheduler.run_ready()
    assert seen == ["begun", "ended"]


@pytest.mark.parametrize("seed", range(8))
def test_a_lock_lets_one_in_at_a_time(seed: int) -> None:
    scheduler = Scheduler(Chance(seed))
    lock = Lock("the metadata lock")
    inside: list[int] = []
    most: list[int] = []

    async def work(number: int) -> None:
        async with lock:
            inside.append(number)
            most.append(len(inside))
            await interleave()
            inside.remove(number)

    for number in range(10):
        scheduler.spawn(work(number), f"worker {number}")
    scheduler.run_ready()
    assert most == [1] * 10


def test_wait_queue_wakes_in_order() -> None:
    scheduler = Scheduler()
    queue = WaitQueue("a turn")
    woken: list[int] = []

    async def sleep(number: int) -> None:
        await queue.wait()
        woken.append(number)

    for number in range(4):
        scheduler.spawn(sleep(number), f"sleeper {number}")
    scheduler.run_ready()
    queue.wake_one()
    scheduler.run_ready()
    assert woken == [0]
    queue.wake_all()
    scheduler.run_ready()
    assert woken == [0, 1, 2, 3]


def test_a_killed_domain_is_silent_and_others_live_on() -> None:
    scheduler = Scheduler()
    domain = Domain(scheduler)
    seen: list[str] = []

    async def tick(name: str, where: Scheduler | Domain) -> None:
        try:
            while True:
                await where.sleep(10)
                seen.append(name)
        except Killed:
            seen.append(f"{name} killed")
            raise

    domain.spawn(tick("machine", domain), "machine")
    scheduler.spawn(tick("client", scheduler), "client")
    scheduler.advance_to(15)
    domain.kill()
    scheduler.advance_to(35)
    assert seen == ["machine", "client", "machine killed", "client", "client"]


def test_finish_now_refuses_to_wait() -> None:
    async def wait() -> None:
        await Future("for ever")

    with pytest.raises(AssertionError, match="for ever"):
        finish_now(wait())


def test_what_the_host_does_is_over_when_no_task_is_ready() -> None:
    scheduler = Scheduler()
    order: list[str] = []

    async def asks_the_host() -> None:
        await scheduler.host_turn
        order.append("the host is done")

    async def takes_turns() -> None:
        for number in range(3):
            order.append(f"turn {number}")
            await interleave()

    scheduler.spawn(asks_the_host(), "asks the host")
    scheduler.spawn(takes_turns(), "takes turns")
    scheduler.run_ready()
    assert order == ["turn 0", "turn 1", "turn 2", "the host is done"]
    assert scheduler.now_ns == 0


def test_with_chance_the_host_may_be_the_faster_one() -> None:
    def order_with(seed: int) -> list[str]:
        scheduler = Scheduler(Chance(seed))
        order: list[str] = []

        async def asks_the_host() -> None:
            await scheduler.host_turn
            order.append("host")

        async def takes_turns() -> None:
            for _ in range(3):
                await interleave()
            order.append("turns")

        scheduler.spawn(asks_the_host(), "asks the host")
        scheduler.spawn(takes_turns(), "takes turns")
        scheduler.run_ready()
        return order

    assert {tuple(order_with(seed)) for seed in range(1, 20)} == {("host", "turns"), ("turns", "host")}


def test_a_task_that_waits_for_the_host_can_be_killed() -> None:
    scheduler = Scheduler()
    domain = Domain(scheduler)
    done: list[str] = []

    async def asks_the_host() -> None:
        await domain.host_turn
        done.append("the host is done")

    domain.enter(asks_the_host(), "asks the host")
    domain.kill()
    scheduler.run_ready()
    assert done == []


def test_timers_due_together_run_before_what_they_make_ready() -> None:
    scheduler = Scheduler()
    order: list[str] = []

    async def sleeper(name: str) -> None:
        await scheduler.sleep(5)
        order.append(f"{name} woke")

    scheduler.spawn(sleeper("first"), "first")
    scheduler.run_ready()
    scheduler.call_at(5, lambda: order.append("timer"))
    scheduler.advance_to(5)
    assert order == ["timer", "first woke"]


def test_a_round_of_the_main_loop_ends_with_the_timers() -> None:
    scheduler = Scheduler()
    order: list[str] = []

    async def two_rounds() -> None:
        for number in (1, 2):
            await scheduler.loop_turn
            order.append(f"round {number}")

    scheduler.spawn(two_rounds(), "two rounds")
    scheduler.call_at(0, lambda: order.append("timer"))
    scheduler.run_ready()
    assert order == ["round 1", "timer", "round 2"]


def test_scheduled_coroutines_are_entered_before_what_else_a_round_does() -> None:
    scheduler = Scheduler()
    order: list[str] = []

    async def other() -> None:
        await scheduler.loop_turn
        order.append("other")

    async def scheduled(name: str) -> None:
        await scheduler.rescheduled()
        order.append(name)

    for coroutine, name in ((other(), "other"), (scheduled("a"), "a"), (scheduled("b"), "b")):
        scheduler.spawn(coroutine, name)
    scheduler.run_ready()
    assert order == ["a", "b", "other"]
