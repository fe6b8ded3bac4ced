"""Sessions recorded from real versions of QEMU, and what replays them on any backend and compares.

A session's source (scenarios/sessions/THEME.yaml) holds inputs only; what each version answered is recorded
beside it (scenarios/recorded/VERSION/THEME/NAME.jsonl), never written by hand.
"""
