"""Command lines of both executables, taken apart: which options there are and which take an argument.

Source: qemu-options.hx, 7.2; storage-daemon/qemu-storage-daemon.c:process_options, 7.2.
"""

from __future__ import annotations

# (name without dashes, argument or "", the option as the user wrote it: QEMU puts that in front of an error)
Option = tuple[str, str, str]

_TAKE_ARGUMENT = (
    "D L M accel acpitable action add-fd append audio audiodev bios blockdev boot cdrom chardev "
    "chroot compat cpu d debugcon device dfilter display drive dtb dump-vmstate echr fda fdb fsdev "
    "fw_cfg g gdb global hda hdb hdc hdd icount incoming initrd iscsi k kernel loadvm m machine "
    "mem-path mon monitor msg mtdblock name net netdev nic numa object option-rom overcommit parallel "
    "pflash pidfile plugin prom-env qmp qmp-pretty qtest qtest-log readconfig rotate rtc runas "
    "sandbox sd seed semihosting-config serial set smbios smp spice tpmdev trace usbdevice uuid vga "
    "virtfs vnc watchdog-action xen-domid"
)
_STAND_ALONE = (
    "S async-teardown audio-help daemonize enable-kvm enable-sync-profile full-screen h help "
    "mem-prealloc no-acpi no-fd-bootchk no-hpet no-reboot no-shutdown no-user-config nodefaults "
    "nographic old-param only-migratable portrait preconfig s semihosting singlestep snapshot usb "
    "version win2k-hack xen-attach xen-domid-restrict"
)
_WITH_ARGUMENT = frozenset(_TAKE_ARGUMENT.split())
_WITHOUT_ARGUMENT = frozenset(_STAND_ALONE.split())
_DAEMON_WITH_ARGUMENT = (
    "blockdev",
    "chardev",
    "export",
    "monitor",
    "nbd-server",
    "object",
    "pidfile",
    "trace",
)
_DAEMON_WITHOUT_ARGUMENT = ("daemonize", "help", "version")
_DAEMON_LETTERS = {"h": "help", "V": "version", "T": "trace"}


class StartError(Exception):
    """The program cannot start: str() is what it prints, without the program's name in front.

    `by_path`: the C library's own complaint, which begins with the program as it was called.
    """

    def __init__(self, message: str, by_path: bool = False) -> None:
        super().__init__(message)
        self.by_path = by_path


def split_system(argv: list[str]) -> list[Option]:
    """qemu-system's options. A bare word is an image for the first disk, as -hda. Raises StartError."""
    options: list[Option] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if not word.startswith("-") or word == "-":
            options.append(("hda", word, word))
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if name in _WITHOUT_ARGUMENT:
            options.append((name, "", word))
        elif name not in _WITH_ARGUMENT:
            raise StartError(f"{word}: invalid option")
        elif position == len(argv):
            raise StartError(f"{word}: requires an argument")
        else:
            options.append((name, argv[position], f"{word} {argv[position]}"))
            position += 1
    return options


def split_daemon(
    argv: list[str], unknown: tuple[str, ...], reads_twice: bool
) -> tuple[list[Option], StartError | None]:
    """qemu-storage-daemon's options as getopt_long takes them, up to the first that it cannot take, and
    what it says of that one. A bare word is an option called "unexpected". `unknown` are options that the
    version has not; `reads_twice` as in versions/command_line.py: nobody looks at what stands behind "--"."""
    known = tuple(name for name in (*_DAEMON_WITH_ARGUMENT, *_DAEMON_WITHOUT_ARGUMENT) if name not in unknown)
    options: list[Option] = []
    words = list(argv)
    try:
        while words:
            word = words.pop(0)
            if word == "--":
                if not reads_twice:
                    options += [("unexpected", rest, rest) for rest in words]
                break
            if word.startswith("--"):
                options.append(_long_option(word, words, known))
            elif word.startswith("-") and word != "-":
                options += _letters(word, words)
            else:
                options.append(("unexpected", word, word))
    except StartError as error:
        return options, error
    return options, None


def _long_option(word: str, rest: list[str], known: tuple[str, ...]) -> Option:
    typed, separator, value = word[2:].partition("=")
    name = _unabbreviated(typed, word, known)
    if name in _DAEMON_WITHOUT_ARGUMENT:
        if separator:
            raise StartError(f"option '--{name}' doesn't allow an argument", by_path=True)
        return name, "", word
    if separator:
        return name, value, word
    if not rest:
        raise StartError(f"option '--{name}' requires an argument", by_path=True)
    value = rest.pop(0)
    return name, value, f"{word} {value}"


def _letters(word: str, rest: list[str]) -> list[Option]:
    """Options of one letter, several in a word; -T takes an argument."""
    found: list[Option] = []
    for position, letter in enumerate(word[1:], 2):
        name = _DAEMON_LETTERS.get(letter)
        if name is None:
            raise StartError(f"invalid option -- '{letter}'", by_path=True)
        if name != "trace":
            found.append((name, "", word))
            continue
        value = word[position:]
        if not value and not rest:
            raise StartError(f"option requires an argument -- '{letter}'", by_path=True)
        shown = word
        if not value:
            value = rest.pop(0)
            shown = f"{word} {value}"
        return [*found, (name, value, shown)]
    return found


def _unabbreviated(name: str, word: str, known: tuple[str, ...]) -> str:
    """getopt_long takes any unique beginning of an option's name."""
    if name in known:
        return name
    found = sorted(candidate for candidate in known if candidate.startswith(name))
    if len(found) == 1:
        return found[0]
    typed = word.partition("=")[0]
    if not found:
        raise StartError(f"unrecognized option '{word}'", by_path=True)
    choices = " ".join(f"'--{candidate}'" for candidate in found)
    raise StartError(f"option '{typed}' is ambiguous; possibilities: {choices}", by_path=True)
