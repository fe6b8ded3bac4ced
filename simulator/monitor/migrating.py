"""What a machine knows of its own migration: capabilities, parameters, how the last attempt went.

Source: migration/migration.c, 7.2: migrate_caps_check, migrate_params_check, migrate_set_state.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import bitmap_aliases
from simulator.monitor.commands import recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.arriving import Arrival
    from simulator.monitor.departing import Departure

_PAGE_BYTES = 4096
_MAPPING = "block-bitmap-mapping"
# Parameters in the order in which they are checked: name, least, most, what is expected.
_RANGES = (
    ("compress-level", 0, 9, "a value between 0 and 9"),
    ("compress-threads", 1, 255, "a value between 1 and 255"),
    ("decompress-threads", 1, 255, "a value between 1 and 255"),
    ("throttle-trigger-threshold", 1, 100, "an integer in the range of 1 to 100"),
    ("cpu-throttle-initial", 1, 99, "an integer in the range of 1 to 99"),
    ("cpu-throttle-increment", 1, 99, "an integer in the range of 1 to 99"),
    ("downtime-limit", 0, 2000000, "an integer in the range of 0 to (2000 * 1000) ms"),
    ("multifd-channels", 1, 255, "a value between 1 and 255"),
    ("multifd-zlib-level", 0, 9, "a value between 0 and 9"),
    ("multifd-qatzip-level", 1, 9, "a value between 1 and 9"),
    ("multifd-zstd-level", 0, 20, "a value between 0 and 20"),
    ("xbzrle-cache-size", _PAGE_BYTES, 1 << 64, "a power of two no less than the target page size"),
    ("max-cpu-throttle", 0, 99, "an integer in the range of cpu_throttle_initial to 99"),
    ("announce-initial", 0, 100000, "a value between 0 and 100000"),
    ("announce-max", 0, 100000, "a value between 0 and 100000"),
    ("announce-rounds", 0, 1000, "a value between 0 and 1000"),
    ("announce-step", 1, 10000, "a value between 0 and 10000"),
)


class Migration:
    """`status`: MigrationStatus of the guest's way out; "none" until it is first sent off. `error`: what
    query-migrate tells of one that failed. Both ways are in files of their own."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._capabilities: dict[str, bool] | None = None
        self._parameters: dict[str, Any] | None = None
        self.status, self.error = "none", ""
        self.departure: Departure | None = None  # the last one
        self.arrival: Arrival | None = None

    # -- what may be set
    @property
    def capabilities(self) -> dict[str, bool]:
        """In the order in which the version lists them."""
        if self._capabilities is None:
            listed = recorded.reply(self._machine, "query-migrate-capabilities")
            self._capabilities = {each["capability"]: each["state"] for each in listed}
        return self._capabilities

    def set_capabilities(self, wanted: list[dict[str, Any]]) -> None:
        """Raises QmpError and changes nothing."""
        self.check_at_rest()
        changed = {**self.capabilities, **{each["capability"]: each["state"] for each in wanted}}
        for name, needs, other, words in self._machine.version.migration.capability_rules:
            if changed.get(name) and changed.get(other, False) != needs:
                raise QmpError(words)
        self._capabilities = changed

    @property
    def parameters(self) -> dict[str, Any]:
        if self._parameters is None:
            self._parameters = dict(recorded.reply(self._machine, "query-migrate-parameters"))
        return self._parameters

    def set_parameters(self, wanted: dict[str, Any]) -> None:
        """Raises QmpError and changes nothing."""
        ignored = self._machine.version.migration.ignored_parameters
        given = {name: value for name, value in wanted.items() if name not in ignored}
        changed = {**self.parameters, **{name: "" if each is None else each for name, each in given.items()}}
        for name, least, most, expected in _RANGES:
            if name not in changed:
                continue
            value = changed[name]
            if name == "max-cpu-throttle":
                least = changed["cpu-throttle-initial"]
            is_wrong_power = name == "xbzrle-cache-size" and value.bit_count() != 1
            if is_wrong_power or not least <= value <= most:
                raise QmpError(self._refusal(name, expected))
        try:
            bitmap_aliases.check(changed.get(_MAPPING, []))
        except QmpError as error:
            raise error.prefixed(f"Invalid mapping given for {_MAPPING}: ") from None
        self._parameters = changed

    def _refusal(self, name: str, expected: str) -> str:
        if self._machine.version.migration.names_options:
            return f"Option {name} expects {expected.replace('_', '-')}"
        return f"Parameter '{name.replace('-', '_')}' expects {expected}"

    # -- how it goes
    def shut_down(self) -> None:
        if self.departure is not None and self.is_under_way:
            self.departure.shut_down()
        if self.arrival is not None:
            self.arrival.shut_down()

    def go_to(self, status: str) -> None:
        """The next state, which is told to those who asked to be told."""
        self.status = status
        self.tell(status)

    def tell(self, status: str) -> None:
        """To those who asked to be told."""
        if self.capabilities.get("events"):
            self._machine.outbox.emit("MIGRATION", {"status": status})

    def tell_pass(self, number: int) -> None:
        """The guest's memory is gone through once more."""
        if self.capabilities.get("events"):
            self._machine.outbox.emit("MIGRATION_PASS", {"pass": number})

    @property
    def is_under_way(self) -> bool:
        return self.departure is not None and not self.departure.is_over

    def check_at_rest(self) -> None:
        """Raises QmpError."""
        if self.is_under_way:
            raise QmpError("There's a migration process in progress")

    def fail(self, error: str = "") -> None:
        """The guest stays where it is (migrate_fd_error)."""
        self.error = error
        if self._machine.version.migration.fails_in_two_steps:
            self.go_to("failing")
        self.go_to("failed")
