"""What is printed of an image that is made (bdrv_img_create, block.c:6919, 7.2)."""

from __future__ import annotations

# In the order in which "Formatting" shows them, with the defaults that it shows.
_QCOW2_SHOWN = (
    ("cluster_size", "65536"), ("extended_l2", "off"), ("preallocation", ""), ("compression_type", "zlib"),
    ("size", ""), ("compat", ""), ("backing_file", ""), ("backing_fmt", ""), ("lazy_refcounts", "off"),
    ("refcount_bits", "16"),
)  # fmt: skip


def formatting(filename: str, image_format: str, options: dict[str, str]) -> str:
    """What is printed on standard output for an image that is made. A cluster size is plain bytes."""
    shown = [f"Formatting '{filename}', fmt={image_format}"]
    if image_format == "raw":
        # The size first, the others as they were given.
        names = sorted(options, key=lambda name: name != "size")
        shown += [f"{name}={options[name]}" for name in names]
    else:
        values = ((name, options.get(name, default)) for name, default in _QCOW2_SHOWN)
        shown += [f"{name}={value}" for name, value in values if value]
    return " ".join(shown)
