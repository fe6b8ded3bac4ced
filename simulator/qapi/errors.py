"""What the argument checks raise."""

from __future__ import annotations


class ArgumentError(Exception):
    """Arguments that QEMU refuses. `desc` is QEMU's text, `error_class` the QMP class of the reply."""

    error_class = "GenericError"

    def __init__(self, desc: str) -> None:
        super().__init__(desc)
        self.desc = desc


class Words:
    """The texts of refused arguments, as `str.format` templates. They differ between versions.

    The defaults are 7.2's: include/qapi/qmp/qerror.h:35-51, qapi/qapi-visit-core.c:407 and
    qapi/qobject-input-visitor.c:163,242, 7.2.
    """

    __slots__ = ("bad_enum_value", "expects", "missing", "scattered", "unexpected", "wrong_type")

    missing: str
    unexpected: str
    wrong_type: str
    expects: str
    bad_enum_value: str
    scattered: str

    def __init__(self, **changed: str) -> None:
        self.missing = "Parameter '{name}' is missing"
        self.unexpected = "Parameter '{name}' is unexpected"
        self.wrong_type = "Invalid parameter type for '{name}', expected: {wanted}"
        self.expects = "Parameter '{name}' expects {wanted}"
        self.bad_enum_value = "Parameter '{name}' does not accept value '{value}'"
        self.scattered = "Parameters '{name}.*' are unexpected"
        for name, template in changed.items():
            if name not in self.__slots__:
                raise AttributeError(f"no such text: {name}; there are {', '.join(self.__slots__)}")
            setattr(self, name, template)
