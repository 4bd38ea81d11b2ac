"""What is told of many versions, and verified: `models`, `log` and `verify`; GTO on as many annotated tags."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.digest import digest_bytes
from tests.apply.site import SmallSite
from tests.bench.peers import absent, peer
from tests.bench.runner import EDGETRAIN, Contestant, Race, command, environment
from tests.bench.sample import forget, merging, pack, with_experiments, with_records, with_versions

SIZE, UNIT = 1000, "versions of one model, each with its run record"
FILE = {"path": "model.json", "digest": digest_bytes(b"model"), "size": 5}
MODEL = {"type": "custom_model", **FILE, "files": [FILE]}
OUTPUTS = {"model": MODEL}


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Five races on one repository."""
    site = SmallSite(folder).make()
    with_experiments(site, size, model="mean")
    with_records(site, score=lambda change, experiment: 0.9, outputs=OUTPUTS)
    with_versions(site, "mean")
    pack(site)
    gto = peer("gto")
    tags = _tags(folder / "tags", size) if gto else folder
    asked = (
        ("Tell", ["models", "mean"], ["show", "mean"]),
        ("Tell the history of", ["log", "mean"], ["history", "mean"]),
    )
    for title, ours, theirs in asked:
        contestants = []
        if gto:
            turn = command(gto, *theirs, cwd=tags)
            contestants.append(Contestant(f"`gto {theirs[0]}` of {size} annotated tags", turn))
        turn = command(EDGETRAIN, *ours, cwd=site.clone)
        contestants.append(Contestant(f"`edgetrain {ours[0]}`, first look", turn, lambda: forget(site)))
        contestants.append(Contestant(f"`edgetrain {ours[0]}`, nothing changed", turn))
        note = (
            "Versions are files on main, each with the record of its run; the tags are registrations of GTO's "
            "form. Both repositories are packed, as a clone is."
        )
        yield Race(f"{title} {size} versions", contestants, 3, note + absent("gto"))
    contestants = [
        Contestant("`git fsck --full`", command("git", "fsck", "--full", cwd=site.clone)),
        Contestant("`edgetrain verify`", command(EDGETRAIN, "verify", cwd=site.clone)),
    ]
    note = (
        "Every record is recomputed from the manifest, code and lock of its commit; `git fsck` reads every object."
    )
    yield Race(f"Verify {size} records with as many versions", contestants, 3, note)
    note = "Before each turn of edgetrain one more run and its version are merged; only they are read."
    for title, ours, theirs in asked:
        contestants = []
        if gto:
            turn = command(gto, *theirs, cwd=tags)
            contestants.append(Contestant(f"`gto {theirs[0]}` of {size} annotated tags", turn))
        turn = command(EDGETRAIN, *ours, cwd=site.clone)
        contestants.append(Contestant(f"`edgetrain {ours[0]}`, one more", turn, merging(site, "mean")))
        yield Race(f"{title} {size} versions, after one more", contestants, 5, note)


def _tags(folder: Path, count: int) -> Path:
    """One commit a version, with an annotated tag as `gto register` makes it."""
    folder.mkdir()
    who = b"Dana <dana@example.org>"
    stream = bytearray()
    for number in range(1, count + 1):
        when, name = b"%d +0000" % (1767225600 + number), b"mean@v1.0.%d" % number
        stream += b"commit refs/heads/main\nmark :%d\ncommitter %s %s\ndata 7\nVersion\n" % (number, who, when)
        stream += b"M 100644 inline model.txt\ndata %d\n%d\n" % (len(b"%d" % number), number)
        message = b"Registering artifact mean version v1.0.%d" % number
        stream += b"tag %s\nfrom :%d\ntagger %s %s\ndata %d\n%s\n" % (
            name,
            number,
            who,
            when,
            len(message),
            message,
        )
    for line, data in ((["init", "--quiet", "-b", "main"], b""), (["fast-import", "--quiet"], bytes(stream))):
        subprocess.run(["git", *line], cwd=folder, env=environment(), input=data, check=True)
    for line in (["reset", "--quiet", "--hard"], ["pack-refs", "--all"], ["repack", "-a", "-d", "--quiet"]):
        subprocess.run(["git", *line], cwd=folder, env=environment(), check=True)
    return folder
