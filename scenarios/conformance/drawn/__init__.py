"""Sessions that nobody wrote: each is drawn from a number, and the same number draws the same session.

A session is a list of moves. A move names what probably exists, and now and then what does not; the world
keeps count of what the moves before have asked for, whether it was granted or not. Each session has some
kinds of moves only, so that what needs many of a kind is met as well (swarm testing).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable

from scenarios.conformance.drawn import clients, images, jobs, machine, nodes
from scenarios.conformance.drawn.world import World
from scenarios.conformance.session import SessionSource
from scenarios.language.steps import Scenario

_LEAST_STEPS, _MOST_STEPS = 6, 20
_SWARM = 0.6

# How often each comes, beside the others of its session.
MOVES: dict[Callable[[World], None], int] = {
    nodes.add_node: 6,
    nodes.add_null: 3,
    nodes.remove_node: 2,
    nodes.reopen: 1,
    nodes.resize: 1,
    nodes.create: 2,
    nodes.change_child: 1,
    jobs.change_bitmap: 4,
    jobs.backup: 4,
    jobs.snapshot: 2,
    jobs.mirror: 2,
    jobs.stream: 1,
    jobs.commit: 1,
    jobs.steer_job: 5,
    jobs.set_job: 1,
    jobs.transact: 3,
    images.make: 2,
    images.drive_mirror: 1,
    images.delete_internal: 1,
    images.change_backing: 1,
    images.amend: 1,
    machine.add_object: 2,
    machine.add_device: 2,
    machine.remove_device: 1,
    machine.change_medium: 1,
    machine.limit: 1,
    machine.move: 1,
    clients.serve: 2,
    clients.add_export: 3,
    clients.remove_export: 2,
    clients.visit: 3,
    clients.guest: 4,
    clients.ask: 3,
    clients.run_state: 1,
}
_ALWAYS = frozenset((nodes.add_node, nodes.add_null, clients.ask))


def draw(seed: int) -> SessionSource:
    """The session of that number, 0 or more."""
    rng = random.Random(seed)
    world = World(rng)
    moves = [move for move in MOVES if move in _ALWAYS or rng.random() < _SWARM]
    weighted = [move for move in moves for _ in range(MOVES[move])]
    wanted_steps = rng.randint(_LEAST_STEPS, _MOST_STEPS)
    while len(world.steps) < wanted_steps:
        rng.choice(weighted)(world)
    name = f"drawn/{seed}"
    return SessionSource(
        name=name,
        scenario=Scenario(name=name, disks=world.disks, attach=world.attach),
        negotiate=True,
        steps=world.steps,
        digest=hashlib.sha256(json.dumps([step.text for step in world.steps]).encode()).hexdigest()[:16],
    )
