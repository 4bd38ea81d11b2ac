"""Reads what a run left and tells it as one JSON document; nothing that it reads is trusted.

A script of its own (standard library only, Python 3.9 or later), started without a network as
`python -I -S harvest.py CONFIG`, CONFIG being JSON: `outputs` (the folder), `declared` (paths in it), `files`
(the greatest number), `cpu` (seconds). Names of files that nobody declared are private: they are in `notes`,
which stay at the site, and never in `faults`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import resource
import sqlite3
import stat
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METRICS, HISTORY, MLFLOW = "metrics.json", "metrics.jsonl", "mlflow.db"
OURS = {METRICS, HISTORY, MLFLOW, MLFLOW + "-wal", MLFLOW + "-shm", MLFLOW + "-journal"}
NAME = re.compile(r"[A-Za-z0-9_.\-/ ]{1,120}")
SLICES = "slices"
SLICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+ \-]{0,63}")
PLAIN = re.compile(r"[^\x00-\x1f\x7f\\]{1,255}")
MEMORY = 2**30
MAX_DEPTH = 32
MAX_METRICS = 200
MAX_SLICES, MAX_SLICED = 100, 2000
MAX_POINTS = 100_000
MAX_JSON = 2**20
MAX_HISTORY = 64 * 2**20
MAX_LINE = 10_000
MAX_FAULTS = 50
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Fault(Exception):
    """What was found can't be accepted."""


class Harvest:
    """What was found so far."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.root = config["outputs"]
        self.declared = [path.strip("/") for path in config["declared"]]
        self.max_files = config["files"]
        self.files: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.metrics: dict[str, float] = {}
        self.slices: dict[str, dict[str, float]] = {}
        self.history: list[list[Any]] = []

    def fault(self, sentence: str, name: str = "") -> None:
        """Note a fault; `name` is for the site's own log only."""
        if len(self.faults) < MAX_FAULTS and sentence not in self.faults:
            self.faults.append(sentence)
        if name and len(self.notes) < MAX_FAULTS:
            self.notes.append(f"{sentence}: {name[:200]!a}")

    def reads(self, what: str, read: Any) -> None:
        """Call `read`; its failure is a fault."""
        try:
            read()
        except Fault as error:
            self.fault(f"{what}: {error}")
        except (OSError, ValueError, TypeError, RecursionError, MemoryError, sqlite3.Error) as error:
            self.fault(f"{what} can't be read ({type(error).__name__})")

    def known(self, path: str) -> bool:
        """Whether the file was declared, lies in a declared folder, or is one of the metrics files."""
        return path in OURS or any(path == own or path.startswith(own + "/") for own in self.declared)

    def walk(self) -> None:
        """List and digest all files, following no link."""
        waiting = [("", os.open(self.root, FOLDER), 0)]
        count = 0
        while waiting:
            prefix, handle, depth = waiting.pop()
            for name in sorted(entry.name for entry in os.scandir(handle)):
                count += 1
                if count > self.max_files:
                    raise Fault(f"there are more than {self.max_files} files")
                path = prefix + name
                if not PLAIN.fullmatch(name) or not name.isprintable():
                    self.fault("a file's name has characters that are not allowed", path)
                    continue
                entry = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if stat.S_ISDIR(entry.st_mode):
                    if depth >= MAX_DEPTH:
                        raise Fault(f"folders are nested deeper than {MAX_DEPTH}")
                    waiting.append((path + "/", os.open(name, FOLDER, dir_fd=handle), depth + 1))
                elif not stat.S_ISREG(entry.st_mode):
                    kind = KINDS.get(stat.S_IFMT(entry.st_mode), "a special file")
                    self.fault(f"the outputs hold {kind}; only regular files are accepted", path)
                elif entry.st_nlink > 1:
                    self.fault("the outputs hold a hard link; only files of their own are accepted", path)
                elif not self.known(path):
                    self.fault("the outputs hold a file that is not declared under outputs", path)
                else:
                    self.digest(path, name, handle)
            os.close(handle)

    def digest(self, path: str, name: str, folder: int) -> None:
        """Add one file."""
        with os.fdopen(os.open(name, FILE, dir_fd=folder), "rb") as file:
            entry = os.fstat(file.fileno())
            if not stat.S_ISREG(entry.st_mode):
                raise Fault("a file changed while it was read")
            if entry.st_size > entry.st_blocks * 512 + 2**24:
                self.fault("the outputs hold a file with holes (sparse)", path)
                return
            hasher, size = hashlib.sha256(), 0
            while chunk := file.read(2**20):
                hasher.update(chunk)
                size += len(chunk)
        self.files.append({"path": path, "size": size, "digest": "sha256:" + hasher.hexdigest()})

    def there(self, name: str) -> bool:
        """Whether a metrics file was found and is a regular file."""
        return any(file["path"] == name for file in self.files)

    def data(self, name: str, most: int) -> bytes:
        """The bytes of a metrics file."""
        with os.fdopen(os.open(Path(self.root, name), FILE), "rb") as file:
            found = file.read(most + 1)
        if len(found) > most:
            raise Fault(f"larger than {most} bytes")
        return found

    def final(self) -> None:
        """Read `metrics.json`."""
        found = json.loads(self.data(METRICS, MAX_JSON).decode("utf-8"), object_pairs_hook=once)
        if not isinstance(found, dict):
            raise Fault("must be one object of names and numbers")
        if isinstance(found.get(SLICES), dict):
            self.sliced(found.pop(SLICES))
        if len(found) > MAX_METRICS:
            raise Fault(f"more than {MAX_METRICS} metrics")
        for name, value in found.items():
            key = named(name)
            self.metrics[key] = number(value, key)

    def sliced(self, found: dict[str, Any]) -> None:
        """Read the metrics of each slice. Names may be anything, so no fault has one."""
        if len(found) > MAX_SLICES:
            raise Fault(f"more than {MAX_SLICES} slices")
        count = 0
        for name, numbers in found.items():
            if not SLICE.fullmatch(name):
                raise Fault("a slice's name is not made of at most 64 letters, digits and _ . + - and spaces")
            if not isinstance(numbers, dict):
                raise Fault("a slice is not an object of names and numbers")
            count += len(numbers)
            if count > MAX_SLICED:
                raise Fault(f"more than {MAX_SLICED} metrics of slices")
            self.slices[name] = {
                named(metric): number(value, "a slice's metric") for metric, value in numbers.items()
            }

    def lines(self) -> Iterator[tuple[Any, Any, Any]]:
        """The points of `metrics.jsonl`."""
        for count, line in enumerate(self.data(HISTORY, MAX_HISTORY).splitlines(), 1):
            if not line.strip():
                continue
            if len(line) > MAX_LINE:
                raise Fault(f"line {count} is too long")
            found = json.loads(line.decode("utf-8"), object_pairs_hook=once)
            if not isinstance(found, dict):
                raise Fault(f"line {count} is not an object")
            yield found.get("name", found.get("metric")), found.get("value"), found.get("step", 0)

    def rows(self) -> Iterator[tuple[Any, Any, Any]]:
        """The points of the MLflow file: by run (the last one last), then by step and time."""
        where = urllib.parse.quote(str(Path(self.root, MLFLOW)))
        base = sqlite3.connect(f"file:{where}?mode=ro&immutable=1", uri=True)
        try:
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
                base.execute("PRAGMA " + pragma)
            kinds = dict(base.execute("SELECT name, type FROM sqlite_master WHERE name = 'metrics'"))
            if kinds.get("metrics") != "table":
                return
            last = dict(base.execute("SELECT run_uuid, max(timestamp) FROM metrics GROUP BY run_uuid LIMIT 1000"))
            query = "SELECT run_uuid, step, timestamp, key, value, is_nan FROM metrics LIMIT ?"
            found = base.execute(query, (MAX_POINTS + 1,)).fetchall()
        finally:
            base.close()
        found.sort(key=lambda row: (last.get(row[0], 0), str(row[0]), row[1], row[2]))
        for _, step, _, key, value, is_nan in found:
            yield key, (math.nan if is_nan else value), step

    def gather(self, points: Iterator[tuple[Any, Any, Any]], finals: bool) -> None:
        """Add points to the history, and with `finals` each name's last one to the metrics."""
        last: dict[str, float] = {}
        for name, value, step in points:
            if len(self.history) >= MAX_POINTS:
                raise Fault(f"more than {MAX_POINTS} points")
            if isinstance(step, bool) or not isinstance(step, int) or abs(step) > 2**53:
                raise Fault("a step is not a whole number")
            key = named(name)
            last[key] = number(value, key)
            if len(last) > MAX_METRICS:
                raise Fault(f"more than {MAX_METRICS} metrics")
            self.history.append([key, last[key], step])
        if finals:
            self.metrics = {**last, **self.metrics}

    def read(self) -> dict[str, Any]:
        """All of it."""
        self.reads("the outputs", self.walk)
        if self.there(METRICS):
            self.reads(METRICS, self.final)
        if self.there(HISTORY):
            self.reads(HISTORY, lambda: self.gather(self.lines(), finals=False))
        if self.there(MLFLOW):
            self.reads(MLFLOW, lambda: self.gather(self.rows(), finals=True))
        self.files.sort(key=lambda file: str(file["path"]))
        names = ("files", "metrics", "slices", "history", "faults", "notes")
        return {name: getattr(self, name) for name in names}


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, with no key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Fault("a name stands there twice")
    return found


def named(name: Any) -> str:
    """A metric's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Fault("a metric's name is not made of at most 120 letters, digits and _ . - / and spaces")
    return name


def number(value: Any, name: str) -> float:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Fault(f"{name} is not a number")
    if abs(value) <= sys.float_info.max:  # false for NaN too
        return float(value)
    raise Fault(f"{name} is not a finite number")


def main() -> None:
    """Read within bounds and print."""
    config = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (config["cpu"], config["cpu"]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(Harvest(config).read(), sys.stdout)


if __name__ == "__main__":
    main()
