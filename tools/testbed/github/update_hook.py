"""The hook that decides about one pushed ref; a copy of it stands in every bare repository.

The server gives its rules in the environment: EDGETRAIN_STANDIN_RULES, JSON with `refs` (ref -> what is refused
there), `workflows` (the sentence by which changes of workflows are refused, or null) and `refusals` (a file that
takes the reasons which git itself can't be told).
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

NOTHING = "0" * 40


def git(*arguments: str) -> str:
    """What git answers."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def forced(old: str, new: str) -> bool:
    """Whether the new commit leaves the old one behind."""
    return bool(subprocess.run(["git", "merge-base", "--is-ancestor", old, new], check=False).returncode)


def refuse(rules: dict[str, Any], ref: str, reason: str, *lines: str) -> None:
    """Say why, and end."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    with Path(rules["refusals"]).open("a", encoding="utf-8") as out:
        out.write(f"{ref}\t{reason}\n")
    sys.exit(1)


def main(ref: str, old: str, new: str) -> None:
    """Exit status 1 refuses the ref."""
    rules = json.loads(os.environ["EDGETRAIN_STANDIN_RULES"])
    mine = rules["refs"].get(ref, {})
    kind = "delete" if new == NOTHING else "force" if old != NOTHING and forced(old, new) else "update"
    if mine.get(kind):
        refuse(rules, ref, mine["reason"], *mine[kind])
    if kind == "delete" and git("symbolic-ref", "HEAD").strip() == ref:
        refuse(rules, ref, f"refusing to delete the current branch: {ref}")
    if not re.fullmatch(r"refs/(heads|tags)/.+", ref):
        return
    if rules["workflows"] and new != NOTHING:
        # What the server already has was let in before.
        listed = git("log", "-z", "--format=", "--name-only", new, "--not", "--all", "--", ".github/workflows/")
        files = sorted(name for name in listed.replace("\n", "\0").split("\0") if name)
        if files:
            refuse(rules, ref, rules["workflows"].replace("%s", files[0]))
    sys.stderr.write("".join(f"{line}\n" for line in mine.get("bypassed", ())))


main(*sys.argv[1:])
