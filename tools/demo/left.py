"""What left the site in a demo, and the names of patients that must not be in it."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path


def hospital_names(data: Path) -> list[bytes]:
    """Every `first,last` and `first last` of the hospital's table, as they would stand in a copied row."""
    pairs = set()
    for file in sorted((data / "hospital-tests").rglob("*.csv")):
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                first, last = row["fake_first_name"], row["fake_last_name"]
                if first and last:
                    pairs |= {f"{first},{last}", f"{first} {last}"}
    return sorted(pair.encode() for pair in pairs)


def released_files(clone: Path, state: Path, out: Path) -> list[Path]:
    """Every file that the runner let out: records and versions on main and proposals (unpacked into `out`), and the
    images."""
    listing = ["git", "for-each-ref", "--format=%(refname)", "refs/remotes/origin"]
    refs = subprocess.run(listing, cwd=clone, check=True, capture_output=True, text=True).stdout.split()
    for number, ref in enumerate(ref for ref in refs if not ref.endswith("/HEAD")):
        folder = out / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.Popen(["git", "archive", ref], cwd=clone, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
        archive.wait()
    written = [
        *out.glob("*/experiments/*/runs/*"),
        *out.glob("*/models/*/versions/*"),
        *out.glob("*/models/*/proposals/*"),
    ]
    return [file for file in [*written, *(state / "images").rglob("*")] if file.is_file()]
