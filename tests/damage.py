"""Damage to a checkpoint's files, as disks do it."""

from pathlib import Path


def largest(directory: Path) -> Path:
    """The file that holds most of a checkpoint's arrays."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(directory: Path) -> None:
    """Flips a bit of an array."""
    path = largest(directory)
    data = bytearray(path.read_bytes())
    # Arrays come first; what follows may be an index of an earlier commit, which nothing reads.
    data[len(data) // 8] ^= 16
    path.write_bytes(data)
