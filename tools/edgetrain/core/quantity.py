"""Sizes and durations as people write them in manifests."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d{1,9})(Ki|Mi|Gi|Ti|k|M|G|T)?")
_DURATION = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def bytes_of(text: str | int) -> int:
    """Bytes in `400Mi`, `64Gi`, `2M`, `123`. ValueError if it is none of these."""
    found = _SIZE.fullmatch(str(text))
    if not found:
        raise ValueError(f"not a size: {text!r}")
    return int(found[1]) * _UNITS[found[2] or ""]


def seconds_of(text: str | int) -> int:
    """Seconds in `90s`, `4h`, `1h30m`, `2d`. ValueError if it is none of these."""
    found = _DURATION.fullmatch(str(text))
    if not found or not any(found.groups()):
        raise ValueError(f"not a duration: {text!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def human_bytes(count: int) -> str:
    """`1.2 MB`, for people."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_seconds(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`, for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
