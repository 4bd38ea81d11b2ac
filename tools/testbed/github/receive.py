"""What a push says and what is answered: the commands of receive-pack, and the reasons that its report gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LARGEST = 65520 - 5  # bytes of a packet beside its length and its band
BROKEN = "the push is cut off"


@dataclass(frozen=True)
class Command:
    """One ref that a push moves."""

    ref: str
    old: str
    new: str


def packets(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each packet up to the first flush (not included), and where it ends. Raises ValueError."""
    at = 0
    while True:
        try:
            size = int(data[at : at + 4], 16)
        except ValueError:
            raise ValueError(BROKEN) from None
        if size == 0:
            return
        if size < 4 or at + size > len(data):
            raise ValueError(BROKEN)
        yield data[at + 4 : at + size], at + size
        at += size


def packet(data: bytes) -> bytes:
    """A packet."""
    return b"%04x" % (len(data) + 4) + data


def commands(body: bytes) -> list[Command]:
    """What a request to receive-pack asks for. Raises ValueError."""
    found = []
    for line, _ in packets(body):
        words = line.split(b"\0")[0].decode("utf-8", "replace").rstrip("\n").split(" ", 2)
        if len(words) == 3 and len(words[0]) == 40:
            found.append(Command(words[2], words[0], words[1]))
    return found


def report(answer: bytes, reasons: Mapping[str, str]) -> tuple[bytes, set[str]]:
    """The answer with the reasons put in for the refs that a hook refused, and the refs that were moved."""
    said: list[bytes] = []
    told = bytearray()
    try:
        for line, _ in packets(answer):
            if line[:1] == b"\x01":
                told += line[1:]
            elif b"hook declined to update" not in line:
                said.append(line)
        lines = [line for line, _ in packets(bytes(told))]
    except ValueError:
        return answer, set()
    moved, replaced = set(), bytearray()
    for line in lines:
        kind, _, rest = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
        ref = rest.partition(" ")[0]
        if kind == "ok":
            moved.add(ref)
        refused = kind == "ng" and ref in reasons
        replaced += packet(f"ng {ref} {reasons[ref]}\n".encode() if refused else line)
    if not lines:
        return answer, moved
    replaced += b"0000"
    parts = [replaced[at : at + LARGEST] for at in range(0, len(replaced), LARGEST)]
    return b"".join([*map(packet, said), *(packet(b"\x01" + part) for part in parts), b"0000"]), moved
