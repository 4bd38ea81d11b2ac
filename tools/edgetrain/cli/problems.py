"""Problems in files, shown in the session's format."""

from __future__ import annotations

from collections.abc import Sequence

from edgetrain.cli.session import Session
from edgetrain.core.problem import Problem


def show_problems(session: Session, problems: Sequence[Problem], closing: str = "") -> None:
    """Print them to standard output; `closing` is a last line for people, in the text form only."""
    if session.format == "json":
        from edgetrain.render.jsons import problems_json

        session.show(problems_json(problems))
    elif session.format == "github":
        from edgetrain.render.github import problem_annotations

        session.show(problem_annotations(problems))
    elif session.format == "markdown":
        from edgetrain.render.markdown import problems_markdown

        session.show(problems_markdown(problems))
    else:
        from edgetrain.cli.colour import painted
        from edgetrain.render.text import problems_text

        session.show(painted(problems_text(problems, closing)))
