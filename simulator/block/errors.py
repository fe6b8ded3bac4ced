"""How the block layer refuses: in QEMU's words for commands, by errno for requests (plain OSError)."""

from __future__ import annotations


class QmpError(Exception):
    """An error that a QMP client sees. `desc` is QEMU's wording, `error_class` one of QapiErrorClass.

    `hint`: lines that only a console shows, behind the message. `is_invalid`: what failed returned EINVAL,
    which somebody goes by.
    """

    hint = ""
    is_invalid = False

    def __init__(self, desc: str, error_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.desc = desc
        self.error_class = error_class

    def prefixed(self, prefix: str) -> QmpError:
        """The same error with text in front (error_prepend)."""
        error = QmpError(prefix + self.desc, self.error_class)
        error.hint = self.hint
        return error

    @property
    def console_text(self) -> str:
        """What a console shows, in lines, without the last line's end."""
        hint = self.hint.rstrip("\n")
        return f"{self.desc}\n{hint}" if hint else self.desc


class ProcessEnd(Exception):
    """QEMU itself ends here: an assertion does not hold, or a driver exits. `status` as the process's parent
    is told it: negative for a signal. `words` are for standard error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words
