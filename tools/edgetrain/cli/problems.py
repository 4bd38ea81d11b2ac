"""Problems in files, shown in the session's format."""

from __future__ import annotations

from collections.abc import Sequence

from edgetrain.cli.session import Session
from edgetrain.core.problem import Problem


def show_problems(session: Session, problems: Sequence[Problem], summary: str = "") -> None:
    """Print them to standard output; `summary` is a last line of the caller's (not in JSON or annotations)."""
    if session.format == "json":
        from edgetrain.render.jsons import problems_json

        session.show(problems_json(problems))
    elif session.format == "github":
        from edgetrain.render.github import annotations

        session.show(annotations(problems))
    elif session.format == "markdown":
        from edgetrain.render.markdown import problems_markdown

        session.show(problems_markdown(problems))
    else:
        from edgetrain.render.text import problems_text

        session.show(problems_text(problems, summary))
