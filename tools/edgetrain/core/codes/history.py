"""What git history forbids (codes H4xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code, Severity

VERSION_CHANGED = Code(
    "H401",
    "merged version was changed",
    "A version is a fact: releases, images and audits refer to its exact bytes.",
    "Restore the file (`git checkout main -- FILE`). Withdraw a wrong version in `model.yaml`, and make a new one.",
)
RECORD_CHANGED = Code(
    "H402",
    "record was changed",
    "Records are facts, one file each, and never edited; others refer to them by digest.",
    "Restore the file as it is on main (`git checkout main -- FILE`).",
)
DELETED_WITH_RECORDS = Code(
    "H403",
    "what has records was deleted or renamed",
    "Its records, and the versions that cite them, would belong to nothing.",
    "Restore the folder and set `metadata.retired: true` in its manifest; take a new name for what is new.",
)
RECORD_BY_HAND = Code(
    "H404",
    "record was not written by the machine",
    "Only commits that are signed by a machine key listed in main's `.github/allowed_signers` touch records, on "
    "branches and on main itself. What lay on main when signers were first listed is taken as it was; where none "
    "are listed, the committer must be the machine of `edgetrain.yaml`.",
    "Remove the record from the branch; the runner writes it after the merge.",
)
RECORD_WITH_OTHERS = Code(
    "H405",
    "commit touches records and other files",
    "A commit that writes a record writes nothing else, so that nothing slips in beside it.",
    "Take the record out of the commit.",
)
HISTORY_UNKNOWN = Code(
    "H406",
    "history could not be checked",
    "Whether merged versions and records are as they were merged is told by git history.",
    "Fetch the whole history: git fetch --unshallow origin, and the configured branch.",
    Severity.WARNING,
)
