"""`edgetrain init`: a new site's repository, and what is still missing of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgetrain.cli.failure import EXIT_REFUSED
from edgetrain.cli.session import Session, format_option, pass_session

if TYPE_CHECKING:
    from edgetrain.scaffold.answers import Answers, Question

F = TypeVar("F", bound=Callable[..., Any])
FORGES = ("none", "github", "ghes")
AZURE = ("subscription", "resource_group", "workspace", "tenant", "client")


def _azure_options(command: F) -> F:
    helps = {
        "subscription": "Azure ML: the subscription.",
        "resource_group": "Azure ML: the workspace's resource group.",
        "workspace": "Azure ML: the workspace.",
        "tenant": "Azure ML: the Entra tenant that one signs in to.",
        "client": "Azure ML: the application that signs in.",
    }
    for name in reversed(AZURE):
        option = f"--azure-{name.replace('_', '-')}"
        metavar = "NAME" if name in ("resource_group", "workspace") else "GUID"
        command = click.option(option, f"azure_{name}", metavar=metavar, default="", help=helps[name])(command)
    return command


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--forge", type=click.Choice(FORGES), default=None, help="Where pull requests live.")
@click.option("--repository", metavar="OWNER/NAME", default="", help="The repository on the forge.")
@click.option("--site", metavar="NAME", default="", help="The site whose runner trains.")
@click.option("--owners", metavar="@ORG/TEAM", multiple=True, help="Who answers for models and experiments.")
@click.option(
    "--platform-owners",
    metavar="@ORG/TEAM",
    multiple=True,
    help="Who answers for the rules (edgetrain.yaml, compute/, .github/); else the owners.",
)
@click.option("--server", metavar="URL", default="", help="ghes: the server's address.")
@click.option("--api", metavar="URL", default="", help="ghes: its REST API; else SERVER/api/v3.")
@click.option(
    "--workspace", type=click.Choice(("mlflow", "azureml")), default="mlflow", help="Where runs are tracked."
)
@_azure_options
@click.option(
    "--edgetrain",
    metavar="OWNER/NAME@COMMIT",
    default="",
    help="Whose workflows are called; else the repository that this package was installed from.",
)
@click.option("--app", metavar="ID", default="", help="The GitHub App's number, if it is made already.")
@click.option(
    "--signing-key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public half of the key that signs records.",
)
@click.option(
    "--state", metavar="FOLDER", default="", help="Durable folder at the site; else /var/lib/edgetrain/SITE."
)
@click.option("--data", metavar="FOLDER", default="", help="Where the site's data lies; else /srv/edgetrain/SITE.")
@click.option("--check", is_flag=True, help="Change nothing: say what is still missing.")
@format_option("text", "markdown", "json")
@pass_session
@click.pass_context
def init(
    context: click.Context,
    session: Session,
    /,
    folder: Path | None,
    owners: tuple[str, ...],
    platform_owners: tuple[str, ...],
    signing_key: Path | None,
    check: bool,
    **given: Any,
) -> None:
    """Make a new site's repository in FOLDER, or add to one what it lacks.

    It writes manifests with an example that trains, workflows, CODEOWNERS, templates, settings of editors, and ends
    with a checklist of what people must do on the forge and at the site. In a terminal it asks for what it can't
    know; elsewhere the options must say it. Nothing that is there is ever changed: a folder with other contents is
    refused, and run again it adds what is missing.

    --check looks at files, git and the forge, and says what is still missing; exit code 3 if something is.
    """
    if check:
        context.exit(_check(session, folder, given["site"]))
    from edgetrain.reconcile.initialise import initialise, known, merged
    from edgetrain.render.init import init_json, init_markdown, init_text
    from edgetrain.scaffold.answers import listed, public_key

    root = _root(session, folder)
    azure = {name: given.pop(f"azure_{name}") for name in AZURE}
    answers = _answers(
        **{**given, "forge": given["forge"] or "", "workspace": given["workspace"] or ""},
        azure=azure,
        owners=tuple(one for text in owners for one in listed(text)),
        platform=tuple(one for text in platform_owners for one in listed(text)),
        signing_key=public_key(_read(signing_key)) if signing_key else "",
    )
    if sys.stdin.isatty():
        answers = _asked(merged(answers, known(root)))
    made = initialise(root, answers)
    session.show({"json": init_json, "markdown": init_markdown}.get(session.format, init_text)(made))


def _answers(azure: dict[str, str], **values: Any) -> Answers:
    from edgetrain.scaffold.answers import Answers, Azure

    return Answers(**values, azure=Azure(**azure))


def _root(session: Session, folder: Path | None) -> Path:
    """The folder asked for, or the current one; `-C` counts."""
    return ((session.directory or Path.cwd()) / (folder or "")).resolve()


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(2**16).decode("utf-8", "replace")


def _asked(answers: Answers) -> Answers:
    """The answers, completed by a person in front of the terminal."""
    from edgetrain.reconcile.initialise import merged
    from edgetrain.scaffold.answers import unanswered, with_answer

    while question := next(unanswered(answers, asking=True), None):
        answers = with_answer(answers, question.field, _ask(question, answers))
        # What pip noted of this package counts for the forge that was just named.
        answers = merged(answers, None)
    return answers


def _ask(question: Question, answers: Answers) -> str:
    from edgetrain.scaffold.answers import fault, listed

    several = question.field in ("owners", "platform")
    default = " ".join(answers.owners) if question.field == "platform" else question.default

    def checked(text: str) -> str:
        for one in listed(text) if several else [text.strip()]:
            if what := fault(question.field, one):
                raise click.BadParameter(what)
        return text.strip()

    answer: str = click.prompt(question.asks, default=default or None, value_proc=checked, err=True)
    return answer


def _check(session: Session, folder: Path | None, site: str) -> int:
    from edgetrain.reconcile.site_check import look
    from edgetrain.render.init import check_json, check_markdown, check_text

    if folder is not None:
        session = replace(session, directory=_root(session, folder))
    found = look(session.root, site or None)
    forms = {"json": check_json, "markdown": check_markdown}
    session.show(forms.get(session.format, check_text)(found))
    return 0 if found.good else EXIT_REFUSED
