"""Command lines of both executables, taken apart: which options there are and which take an argument.

Source: qemu-options.hx, 7.2; storage-daemon/qemu-storage-daemon.c:process_options, 7.2.
"""

from __future__ import annotations

# (name without dashes, argument or "", the option as the user wrote it: QEMU puts that in front of an error)
Option = tuple[str, str, str]

_WITH_ARGUMENT = frozenset(
    "D L M accel acpitable action add-fd append audio audiodev bios blockdev boot cdrom chardev chroot compat cpu d "
    "debugcon device dfilter display drive dtb dump-vmstate echr fda fdb fsdev fw_cfg g gdb global hda hdb hdc hdd "
    "icount incoming initrd iscsi k kernel loadvm m machine mem-path mon monitor msg mtdblock name net netdev nic numa "
    "object option-rom overcommit parallel pflash pidfile plugin prom-env qmp qmp-pretty qtest qtest-log readconfig "
    "rotate rtc runas sandbox sd seed semihosting-config serial set smbios smp spice tpmdev trace usbdevice uuid vga "
    "virtfs vnc watchdog-action xen-domid".split()
)
_WITHOUT_ARGUMENT = frozenset(
    "S async-teardown audio-help daemonize enable-kvm enable-sync-profile full-screen h help mem-prealloc no-acpi "
    "no-fd-bootchk no-hpet no-reboot no-shutdown no-user-config nodefaults nographic old-param only-migratable portrait "
    "preconfig s semihosting singlestep snapshot usb version win2k-hack xen-attach xen-domid-restrict".split()
)
_DAEMON_WITH_ARGUMENT = ("blockdev", "chardev", "export", "monitor", "nbd-server", "object", "pidfile", "trace")
_DAEMON_WITHOUT_ARGUMENT = ("daemonize", "help", "version")


class StartError(Exception):
    """The program cannot start: str() is what it prints, without the program's name in front."""


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


def split_daemon(argv: list[str]) -> list[Option]:
    """qemu-storage-daemon's options, as getopt_long takes them. Raises StartError."""
    options: list[Option] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word in ("-h", "-V"):
            options.append(("help" if word == "-h" else "version", "", word))
            continue
        if word.startswith("-T"):
            word = "--trace=" + word[2:] if len(word) > 2 else "--trace"
        if not word.startswith("--"):
            raise StartError(f"{word}: Unexpected argument")
        name, separator, value = word[2:].partition("=")
        name = _unabbreviated(name, word)
        if name in _DAEMON_WITHOUT_ARGUMENT:
            options.append((name, "", word))
            continue
        if not separator:
            if position == len(argv):
                raise StartError(f"option '--{name}' requires an argument")
            value = argv[position]
            position += 1
        options.append((name, value, f"--{name} {value}"))
    return options


def _unabbreviated(name: str, word: str) -> str:
    """getopt_long takes any unique beginning of an option's name."""
    known = (*_DAEMON_WITH_ARGUMENT, *_DAEMON_WITHOUT_ARGUMENT)
    if name in known:
        return name
    found = [candidate for candidate in known if candidate.startswith(name)]
    if len(found) != 1:
        how = "ambiguous" if found else "unrecognized"
        raise StartError(f"{how} option '{word.partition('=')[0]}'" if not found else f"option '{word}' is ambiguous")
    return found[0]
