"""Certificates as far as QEMU looks at them itself: PEM and DER to plain values (RFC 5280, RFC 7468).

Names are written as GnuTLS tells them to QEMU's authorisation: as RFC 4514 has them, but first part first.
"""

from __future__ import annotations

from base64 import b64decode
from ipaddress import ip_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY_S = 86_400
_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "givenName",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "EMAIL",
}
_KEY_ID, _KEY_USAGE, _BASIC = "2.5.29.14", "2.5.29.15", "2.5.29.19"
_AUTHORITY_KEY_ID, _PURPOSES, _OTHER_NAMES = "2.5.29.35", "2.5.29.37", "2.5.29.17"
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
ANY_PURPOSE, FOR_SERVERS, FOR_CLIENTS = "2.5.29.37.0", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
MAY_SIGN_DATA, MAY_ENCIPHER_KEYS, MAY_SIGN_CERTIFICATES = 0, 2, 5  # bits of the key usage


class Malformed(ValueError):
    """No certificate that can be read."""


class NotDer(Malformed):
    """It is base64, of something else than a certificate."""


class Certificate:
    """`not_before_s`, `not_after_s`: seconds since 1970. None where there is no such extension: `is_ca`,
    `usage` (bits that are set, in order, and whether the extension is critical), `purposes` (likewise)."""

    def __init__(self, der: bytes) -> None:
        """Raises Malformed."""
        self.is_ca: bool | None = None
        self.usage: tuple[list[int], bool] | None = None
        self.purposes: tuple[list[str], bool] | None = None
        self.key_id = self.authority_key_id = b""
        self.host_names: list[str] = []  # DNS names, or the common name if there are none
        self.addresses: list[bytes] = []
        try:
            self._read(der)
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            raise NotDer(f"expected a certificate in DER, {error}") from None

    def _read(self, der: bytes) -> None:
        (_, whole), *_ = _elements(der)
        (_, signed), *_ = _elements(whole)
        fields = [each for each in _elements(signed) if each[0] not in (0xA0, 0x81, 0x82)]
        (_, issuer), (_, validity), (_, subject) = fields[2:5]
        self.issuer, self.subject = _name(issuer), _name(subject)
        self.not_before_s, self.not_after_s = (_seconds(tag, text) for tag, text in _elements(validity))
        common_names = [name[3:] for name in self.subject.split(",") if name.startswith("CN=")]
        for tag, outer in fields[6:]:
            if tag == 0xA3:
                for _, listed in _elements(outer):
                    for _, extension in _elements(listed):
                        self._take_extension(list(_elements(extension)))
        self.host_names = self.host_names or common_names[-1:]

    def _take_extension(self, parts: list[tuple[int, bytes]]) -> None:
        kind = _oid(parts[0][1])
        critical = parts[1][0] == 1 and parts[1][1] != b"\0"
        value = parts[-1][1]
        if kind == _BASIC:
            self.is_ca = any(tag == 1 and flag != b"\0" for tag, flag in _elements(_inside(value)))
        elif kind == _KEY_USAGE:
            bits = _inside(value)[1:]
            numbers = [at for at in range(8 * len(bits)) if bits[at // 8] & 0x80 >> at % 8]
            self.usage = numbers, critical
        elif kind == _PURPOSES:
            self.purposes = [_oid(each) for _, each in _elements(_inside(value))], critical
        elif kind == _OTHER_NAMES:
            for tag, name in _elements(_inside(value)):
                if tag == _DNS_NAME:
                    self.host_names.append(name.decode("ascii"))
                elif tag == _IP_ADDRESS:
                    self.addresses.append(name)
        elif kind == _KEY_ID:
            self.key_id = _inside(value)
        elif kind == _AUTHORITY_KEY_ID:
            self.authority_key_id = b"".join(each for tag, each in _elements(_inside(value)) if tag == 0x80)

    def is_for(self, host: str) -> bool:
        """`host` is a DNS name, or an address as text. A name's first part may be * (RFC 6125)."""
        try:
            if ip_address(host).packed in self.addresses:
                return True
        except ValueError:
            pass
        wanted = host.lower().rstrip(".").split(".")
        for name in self.host_names:
            parts = name.lower().rstrip(".").split(".")
            if parts == wanted or (parts[0] == "*" and len(parts) > 2 and parts[1:] == wanted[1:]):
                return True
        return False

    def may_have_signed(self, other: Certificate) -> bool:
        """By names and key identifiers; signatures are not computed."""
        ours, named = self.key_id, other.authority_key_id
        return self.subject == other.issuer and (not ours or not named or ours == named)


def pem_blocks(text: bytes, *labels: bytes) -> list[bytes]:
    """The contents of the blocks with these labels, in order. Raises Malformed if one is not base64."""
    found: list[bytes] = []
    lines: list[bytes] = []
    label = b""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith(b"-----BEGIN ") and line.endswith(b"-----"):
            label, lines = line[11:-5], []
        elif label and line == b"-----END " + label + b"-----":
            if label in labels:
                found.append(_decode(b"".join(lines)))
            label = b""
        elif label:
            lines.append(line)
    return found


def _decode(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"expected base64 between the lines of a PEM block, {error}") from None


def certificates(text: bytes) -> list[Certificate]:
    """All in a PEM file. Raises Malformed."""
    return [Certificate(der) for der in pem_blocks(text, b"CERTIFICATE", b"X509 CERTIFICATE")]


# -- DER
def _elements(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, contents), one after the other."""
    at = 0
    while at < len(encoded):
        tag, length = encoded[at], encoded[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(encoded[at : at + count], "big")
            at += count
        if at + length > len(encoded):
            raise ValueError(f"an element of {length} bytes has {len(encoded) - at}")
        yield tag, encoded[at : at + length]
        at += length


def _inside(encoded: bytes) -> bytes:
    """The contents of the one element."""
    return next(iter(_elements(encoded)), (0, b""))[1]


def _oid(encoded: bytes) -> str:
    numbers, number = [], 0
    for byte in encoded:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _seconds(tag: int, text: bytes) -> int:
    """UTCTime (two digits of the year) or GeneralizedTime, both in UTC."""
    digits = text.decode("ascii").rstrip("Z")
    if tag == 0x17:
        digits = ("19" if digits >= "5" else "20") + digits
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    hour, minute, second = (int(digits[at : at + 2]) for at in (8, 10, 12))
    return _days(year, month, day) * _DAY_S + hour * 3600 + minute * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Since 1970-01-01. Years begin in March here, so that the leap day is a year's last."""
    if month < 3:
        year, month = year - 1, month + 12
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469


def _name(encoded: bytes) -> str:
    parts = []
    for _, together in _elements(encoded):
        pairs = []
        for _, pair in _elements(together):
            (_, kind), (tag, value) = _elements(pair)
            text = value.decode("utf-16-be" if tag == 0x1E else "latin-1" if tag == 0x14 else "utf-8")
            oid = _oid(kind)
            pairs.append(f"{_ATTRIBUTES.get(oid, oid)}={_escaped(text)}")
        parts.append("+".join(pairs))
    return ",".join(parts)


def _escaped(text: str) -> str:
    quoted = "".join("\\" + letter if letter in ',+"\\<>;' else letter for letter in text)
    if quoted.startswith(("#", " ")):
        quoted = "\\" + quoted
    if quoted.endswith(" ") and len(text) > 1:
        quoted = quoted[:-1] + "\\ "
    return quoted
