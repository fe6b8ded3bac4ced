"""Commands of the human monitor that nothing here has a part in: what they take, and what they print of a
machine that has just been made.

The table is that of hmp-commands.hx and hmp-commands-info.hx, 7.2, with what other versions have more; which
of them a version has, its own "help" tells.
"""

from __future__ import annotations

from simulator.monitor import board
from simulator.monitor.hmp.parser import HmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.hmp.dispatch import HmpCommand

_ARGUMENTS = {
    "acl_add": "aclname:s,match:s,policy:s,index:i?",
    "acl_policy": "aclname:s,policy:s",
    "acl_remove": "aclname:s,match:s",
    "acl_reset": "aclname:s",
    "acl_show": "aclname:s",
    "announce_self": "interfaces:s?,id:s?",
    "balloon": "value:M",
    "block_passwd": "device:B,password:s",
    "calc_dirty_rate": "dirty_ring:-r,dirty_bitmap:-b,second:l,sample_pages_per_GB:l?",
    "cancel_vcpu_dirty_limit": "cpu_index:l?",
    "clear": "",
    "client_migrate_info": "protocol:s,hostname:s,port:i?,tls-port:i?,cert-subject:s?",
    "dump-guest-memory": (
        "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,filename:F,begin:l?,length:l?"
    ),
    "delvm": "name:s",
    "dumpdtb": "filename:F",
    "exit_preconfig": "",
    "expire_password": "protocol:s,time:s,display:-ds",
    "gdbserver": "device:s?",
    "gpa2hpa": "addr:l",
    "gpa2hva": "addr:l",
    "gva2gpa": "addr:l",
    "hostfwd_add": "arg1:s,arg2:s?",
    "hostfwd_remove": "arg1:s,arg2:s?",
    "i": "fmt:/,addr:i,index:i.",
    "loadvm": "name:s",
    "log": "items:s",
    "logfile": "filename:F",
    "mce": "broadcast:-b,cpu_index:i,bank:i,status:l,mcg_status:l,addr:l,misc:l",
    "memsave": "val:l,size:i,filename:s",
    "mouse_button": "button_state:i",
    "mouse_move": "dx_str:s,dy_str:s,dz_str:s?",
    "mouse_set": "index:i",
    "netdev_add": "netdev:O",
    "netdev_del": "id:s",
    "o": "fmt:/,addr:i,val:i",
    "one-insn-per-tb": "option:s?",
    "pcie_aer_inject_error": (
        "advisory_non_fatal:-a,correctable:-c,id:s,error_status:s,header0:i?,header1:i?,header2:i?,"
        "header3:i?,prefix0:i?,prefix1:i?,prefix2:i?,prefix3:i?"
    ),
    "pmemsave": "val:l,size:i,filename:s",
    "replay_break": "icount:l",
    "replay_delete_break": "",
    "replay_seek": "icount:l",
    "savevm": "name:s?",
    "screendump": "filename:F,format:-fs,device:s?,head:i?",
    "set_link": "name:s,up:b",
    "set_password": "protocol:s,password:s,display:-ds,connected:s?",
    "set_vcpu_dirty_limit": "dirty_rate:l,cpu_index:l?",
    "singlestep": "option:s?",
    "stopcapture": "n:i",
    "sum": "start:i,size:i",
    "sync-profile": "op:s?",
    "trace-event": "name:s,option:b,vcpu:i?",
    "wavcapture": "path:F,audiodev:s,freq:i?,bits:i?,nchannels:i?",
    "x": "fmt:/,addr:l",
    "x_colo_lost_heartbeat": "",
    "xen-event-inject": "port:i",
    "xen-event-list": "",
    "xp": "fmt:/,addr:l",
    "info lapic": "apic-id:i?",
    "info mtree": "flatview:-f,dispatch_tree:-d,owner:-o,disabled:-D",
    "info qom-tree": "path:s?",
    "info registers": "cpustate_all:-a,vcpu:i?",
    "info rocker": "name:s",
    "info rocker-of-dpa-flows": "name:s,tbl_id:i?",
    "info rocker-of-dpa-groups": "name:s,type:i?",
    "info rocker-ports": "name:s",
    "info stats": "target:s,names:s?,provider:s?",
    "info sync-profile": "mean:-m,no_coalesce:-n,max:i?",
    "info trace-events": "name:s?,vcpu:i?",
    "info virtio-queue-element": "path:s,queue:i,index:i?",
    "info virtio-queue-status": "path:s,queue:i",
    "info virtio-status": "path:s",
    "info virtio-vhost-queue-status": "path:s,queue:i",
}  # fmt: skip
# Tell of devices and of memory, of which a machine has more than its board as soon as any is added.
_OF_DEVICES = ("mtree", "qom-tree", "qtree", "ramblock")
_UNAVAILABLE = " is not available."


def find(machine: Machine, name: str, so_far: str) -> tuple[str, HmpCommand]:
    """(what it takes, what it does). `so_far`: the line up to its arguments. Raises HmpError for one that the
    binary only knows the name of."""
    topic = name.removeprefix("info ")
    text = _recorded(machine, topic) if topic != name else None
    if text is not None and text.startswith("Command ") and text.rstrip().endswith(_UNAVAILABLE):
        raise HmpError(f'Command "{so_far}"{_UNAVAILABLE}')

    async def run(machine: Machine, arguments: dict[str, Any]) -> str:
        if text is None or arguments or (topic in _OF_DEVICES and machine.slots.has_devices):
            raise HmpError(f"The command {name} is not simulated")
        return text

    return _ARGUMENTS.get(name, ""), run


def _recorded(machine: Machine, topic: str) -> str | None:
    text = board.told(machine).get("info", {}).get(topic)
    return text.replace("\r\n", "\n") if text is not None else None


def full_name(machine: Machine, name: str) -> str | None:
    """As the version's table of commands has it: with all names of a command that has several."""
    if machine.version.name not in _names:
        _names[machine.version.name] = _names_of(machine)
    return _names[machine.version.name].get(name)


_names: dict[str, dict[str, str]] = {}  # of each version: name -> full name


def _names_of(machine: Machine) -> dict[str, str]:
    found: dict[str, str] = {}
    for what, before in (("help", ""), ("help_info", "info ")):
        for line in str(machine.version.recorded(machine.binary, what)).splitlines():
            full = line.removeprefix(before).partition(" ")[0]
            found |= {before + each: before + full for each in full.split("|")}
    return found
