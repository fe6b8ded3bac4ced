"""Bytes that no client would say, on a monitor and on an NBD connection: drawn from numbers, given to the
simulator and to a real QEMU, judged and compared (`goldenfleece fuzz-streams`)."""
