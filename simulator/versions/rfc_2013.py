"""The interface that the image fleecing RFC of 2013 proposes, on top of 7.2.

"[libvirt] [RFC] Image Fleecing for Libvirt", 15 July 2013: step 3 is drive-backup with mode=drive,
whose target is the id of a drive added before; the first step of the ending is block-job-complete.
"""

from __future__ import annotations

NAME = "rfc-2013"
BASE = "7.2"
RECORDED = "7.2"

# NewImageMode gets one more value wherever it is used.
SCHEMA_EDITS = (("add-enum-value", ("drive-backup", "mode"), "drive"),)
REWORDED = ()

FACTS = (
    ("dialect.drive_backup_to_drive", True, "RFC, step 3: NewImageMode 'drive' means a device id"),
    ("dialect.block_job_complete_ends_fleece", True, "RFC, 'When image fleecing done', step 1"),
    ("dialect.drive_add_without_slot", True, "RFC, step 2: drive_add is written without a slot"),
)
