"""What is measured of volumes and of folders."""

from typing import NamedTuple


class Usage(NamedTuple):
    """Bytes of all files, each as long as it says it is, one with several names once; and how many files."""

    used_bytes: int
    files: int


class Capacity(NamedTuple):
    """Of a whole volume, in bytes."""

    capacity_bytes: int
    used_bytes: int
