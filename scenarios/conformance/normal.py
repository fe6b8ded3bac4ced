"""What no two runs share has one name in all: times, directories, node names that QEMU made up, and
what the host's file system makes of a file."""

from __future__ import annotations

import re
from typing import Any

# How many blocks a file takes is the file system's matter, what a thread is called the kernel's, and when a
# snapshot was made the clock's; virtual time begins in 1970.
_HOST = frozenset(("actual-size", "thread-id", "date-sec", "date-nsec"))
_HOST_IN_WORDS = re.compile(
    r"(?<=disk size: )[0-9.]+ (B|[KMG]iB)|(?<=thread_id=)[0-9]+|(?<=_time_ns=)[0-9]+"
    r"|(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"
)
# A row of the table that "info blockstats" prints in some versions: how long requests took.
_TIME_IN_ROW = re.compile(
    r"(?m)^((?:Read|Write): +[0-9]+ +[0-9]+|Flush: +[0-9]+)( +[0-9]+)(?=(?: +[0-9]+)?\r?$)"
)
# Where the socket of the session's own monitor is, and which terminal the host had left.
_PLACES = re.compile(r"(?<=unix:)/[^ ]*(?=/watched\.sock)|(?<=/dev/pts/)[0-9]+")
_MADE_UP = re.compile(r"#block[0-9]+")


class Normaliser:
    """For one run. `directory` is where its machine runs; made-up names are numbered as they appear."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._names: dict[str, str] = {}

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A QMP message; an event's time stamp is left out, which must be one."""
        stamp = message.get("timestamp")
        if "event" in message and isinstance(stamp, dict) and set(stamp) == {"seconds", "microseconds"}:
            message = {key: value for key, value in message.items() if key != "timestamp"}
        normal: dict[str, Any] = self.value(message)
        return normal

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {self._text(key): self._member(key, each) for key, each in value.items()}
        return value

    def _member(self, key: str, value: Any) -> Any:
        return "HOST" if key in _HOST and type(value) is int else self.value(value)

    def _text(self, text: str) -> str:
        if "#block" in text:
            text = _MADE_UP.sub(self._made_up, text)
        if "\n" in text:
            text = _HOST_IN_WORDS.sub("HOST", text)
            text = _TIME_IN_ROW.sub(lambda row: row[1] + "HOST".rjust(len(row[2])), text)
        if "unix:/" in text or "/dev/pts/" in text:
            text = _PLACES.sub("HOST", text)
        return text.replace(self._directory, "DIRECTORY")

    def _made_up(self, found: re.Match[str]) -> str:
        return self._names.setdefault(found[0], f"#block:{len(self._names) + 1}")
