"""${...} names in raw steps: what only the run knows.

    ${dir}  ${nbd}                   the machine's directory; the socket that nbd-server-start is to listen on
    ${mounts}                        its directory, as others reach what it has mounted there itself
    ${certificates}                  the directory of the scenario's certificates
    ${DISK.node}  ${DISK.filename}   the disk's format node; its image, with its directory
    ${DISK.device}  ${DISK.size}     the qdev id (or, attach: drive, the drive); bytes
    ${DISK.server}                   the socket of the server that its storage is behind (fault)
    ${ID.DISK.export}                of a point in time: the export's id and name, and
    ${ID.DISK.node}  ${ID.DISK.job}  the exported node, and the backup job (overlay)
    ${destination.NAME}              NAME as the second machine has it

A string that is nothing but one name takes on the type of its value, so "${vda.size}" is a number.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(r"\$\{([^}]*)\}")


class UnknownNameError(Exception):
    """A ${...} that means nothing here; str() lists what is known."""


def substitute(value: Any, names: dict[str, Any]) -> Any:
    """A copy of `value` with the names in all its strings (not in keys) replaced. Raises UnknownNameError."""
    if isinstance(value, str):
        if "${" not in value:
            return value
        whole = _NAME.fullmatch(value)
        if whole:
            return _look(whole[1], names)
        return _NAME.sub(lambda found: str(_look(found[1], names)), value)
    if isinstance(value, list):
        return [substitute(each, names) for each in value]
    if isinstance(value, dict):
        return {key: substitute(each, names) for key, each in value.items()}
    return value


def _look(name: str, names: dict[str, Any]) -> Any:
    if name not in names:
        raise UnknownNameError(f"${{{name}}} is not known here, only {', '.join(sorted(names))}")
    return names[name]
