"""Writes the page of all problem codes: `python -m edgetrain.render.problems > docs/problems.md`."""

from __future__ import annotations

import sys

from edgetrain.core.codes import CODES, FAMILIES
from edgetrain.core.problem import Code, Severity

_HEAD = """\
# Problems

<!-- Made by `python -m edgetrain.render.problems`; do not edit. -->

Every fault that edgetrain finds in a file has one of these codes. A code keeps its meaning for ever.
`edgetrain explain CODE` says the same on the terminal.
"""


def page() -> str:
    """The whole page, in Markdown: contents by family, then a section for each code."""
    parts = [_HEAD]
    for family in FAMILIES:
        codes = sorted((v for v in vars(family).values() if isinstance(v, Code)), key=lambda code: code.id)
        if not codes:
            continue
        rows = "".join(f"| [{code.id}](#{code.id.lower()}) | {_cell(code)} |\n" for code in codes)
        title = (family.__doc__ or "").strip().rstrip(".")
        parts.append(f"## {title}\n\n| code | what |\n|---|---|\n{rows}")
    parts += [section(code) for code in CODES.values()]
    return "\n".join(parts)


def section(code: Code) -> str:
    """One code's section: what, why, fix."""
    note = "\n*A warning: it does not change the exit code.*\n" if code.severity is Severity.WARNING else ""
    # The anchor keeps links alive when a title changes.
    return (
        f'<a id="{code.id.lower()}"></a>\n### {code.id}: {code.title}\n{note}\n'
        f"**Why.** {code.why}\n\n**Fix.** {code.fix}\n"
    )


def _cell(code: Code) -> str:
    text = code.title.replace("|", "\\|")
    return f"{text} (warning)" if code.severity is Severity.WARNING else text


if __name__ == "__main__":
    sys.stdout.write(page())
