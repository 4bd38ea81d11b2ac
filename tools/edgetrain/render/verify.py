"""What `edgetrain verify` found, as text, Markdown and JSON."""

from __future__ import annotations

from dataclasses import dataclass

from edgetrain.core.digest import short
from edgetrain.core.ports import CheckStatus
from edgetrain.core.problem import shown
from edgetrain.render.doctor import Part, parts_json, parts_table, parts_text
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import prose
from edgetrain.render.words import plural

# The name of a check that says who could not be asked.
UNREACHED = "not-asked"


@dataclass(frozen=True)
class Verification:
    """What was recomputed at a commit: `scope` is `everything`, `mean` or `mean@2`; `deep`: outside as well, and
    `forge`: pull requests too."""

    scope: str
    commit: str
    deep: bool
    parts: tuple[Part, ...]
    forge: bool = False

    def count(self, status: CheckStatus) -> int:
        """How many checks went so."""
        return sum(check.status is status for part in self.parts for check in part.checks)

    @property
    def holds(self) -> bool:
        """Whether nothing is otherwise than recorded; what can't be told is no mismatch."""
        return not self.count(CheckStatus.FAIL)

    @property
    def answered(self) -> bool:
        """Whether all that were asked gave an answer."""
        return all(check.name != UNREACHED for part in self.parts for check in part.checks)


def summary(found: Verification) -> str:
    """`mean@2 at 1a2b3c4d5e6f: it holds (12 checks)`; not quite that, where something can't be told."""
    held, unknown, wrong = (found.count(status) for status in CheckStatus)
    well = f"what can be told holds, {plural(unknown, 'thing')} can't be" if unknown else "it holds"
    verdict = well if found.holds else f"{plural(wrong, 'thing')} {'does' if wrong == 1 else 'do'} not hold"
    told = plural(held + unknown + wrong, "check")
    told += f", {unknown} can't be told here" if unknown and not found.holds else ""
    return f"{shown(found.scope)} at {short(found.commit)}: {verdict} ({told})"


def asked(found: Verification) -> str:
    """How far it looked."""
    outside = "every byte in workspace, registries and artifact store"
    compared = [outside] * found.deep + ["the forge's pull requests"] * found.forge
    if compared:
        return f"Recomputed from git, and compared with {' and with '.join(compared)}."
    return f"Recomputed from git alone; --deep also reads {outside}, --forge what it knows of approvals."


def verify_text(found: Verification) -> str:
    """By object, each check in a line."""
    return "\n".join([f"Verify {summary(found)}", asked(found), *parts_text(found.parts)]) + "\n"


def verify_markdown(found: Verification) -> str:
    """A table of all checks, what does not hold first."""
    head = [f"### edgetrain verify {prose(summary(found))}", "", prose(asked(found)), ""]
    return "\n".join([*head, *parts_table(found.parts)]) + "\n"


def verify_json(found: Verification) -> str:
    """For machines."""
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "Verification",
            "scope": found.scope,
            "commit": found.commit,
            "deep": found.deep,
            "forge": found.forge,
            "holds": found.holds,
            "answered": found.answered,
            "counts": {status.value: found.count(status) for status in CheckStatus},
            "parts": parts_json(found.parts),
        }
    )
