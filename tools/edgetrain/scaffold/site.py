"""The files of a new site's repository, all of them, from checked answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

from edgetrain.core.kinds import KINDS
from edgetrain.core.step import Step
from edgetrain.scaffold import new
from edgetrain.scaffold.answers import GITHUB, GITHUB_API, Answers
from edgetrain.scaffold.checklist import ENVIRONMENT, KEYS, MACHINE, checklist

EXAMPLE, TARGET, DATASTORE = "example", "runner", "site-data"
WORKFLOWS = {
    "pull-request": "workflows/pull-request.yml",
    "comment": "workflows/comment.yml",
    "apply": "workflows/apply.yml",
}
# Name, what it does, and when; those without a time are started by hand, for one run and a reason.
SITE_WORKFLOWS = (
    (
        "drift",
        "What is not as git says: one issue, kept up to date, and closed when nothing is left.",
        "17 5 * * *",
    ),
    ("data-watch", "Proposes a new digest when data that experiments name has changed at the site.", "47 4 * * *"),
    ("doctor", "Looks at everything that the site needs, without changing anything.", "37 5 * * 1"),
    ("retry", "Starts another attempt of a run that has ended, for a reason that is put on record.", ""),
    ("cancel", "Stops a run that is under way, for a reason that is put on record.", ""),
)
# What these do where they are written out, and the minutes that they may take: jobs that sign in to Azure.
_REASONED = '--reason="$REASON" -- "$RUN"'
_APPLY = 'edgetrain -C main apply --lane train --no-wait --format github --summary "$GITHUB_STEP_SUMMARY"'
COMMANDS = {
    "drift": (60, ("edgetrain -C main drift --issue",)),
    "doctor": (30, ("edgetrain -C main doctor --format github",)),
    "retry": (60, (f"edgetrain -C main retry {_REASONED}", _APPLY)),
    "cancel": (60, (f"edgetrain -C main cancel {_REASONED}", _APPLY)),
}
TEMPLATES = ("experiment", "model", "release", "compute", "rules")
FORMS = ("config", "run", "data", "model")
# By commit, as their tags stood: what GitHub Enterprise Server runs is looked up in the actions' own README files.
ACTIONS = {
    "checkout": "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0",
    "upload": "actions/upload-artifact@c24449f33cd45d4826c6702db7e49f7cdb9b551d # v3.2.1-node20",
}


def completed(answers: Answers) -> Answers:
    """The answers, with what follows from others: addresses of the forge, folders at the site."""
    server, api = answers.server.rstrip("/"), answers.api.rstrip("/")
    if answers.forge == "github":
        server, api = GITHUB, GITHUB_API
    elif answers.forge == "ghes":
        api = api or f"{server}/api/v3"
    below = "/var/lib/edgetrain" if answers.forge != "none" else "~/.local/state/edgetrain"
    data = "/srv/edgetrain" if answers.forge != "none" else "~/.local/share/edgetrain"
    return replace(
        answers,
        server=server,
        api=api,
        workspace=answers.workspace or "mlflow",
        platform=answers.platform or answers.owners,
        state=answers.state or f"{below}/{answers.site}",
        data=answers.data or f"{data}/{answers.site}",
    )


def files(given: Answers, *, vendored: bool = False) -> dict[str, str]:
    """All files of the repository, by path. `vendored`: it holds the package itself, below `tools/`."""
    answers = completed(given)
    values = _values(answers, vendored)
    made = {
        "edgetrain.yaml": new.render("init/edgetrain.yaml", values),
        ".gitattributes": new.render("init/gitattributes", values),
        ".gitignore": new.render("init/gitignore", values),
        ".pre-commit-config.yaml": new.render("init/pre-commit-config.yaml", values),
        ".vscode/settings.json": new.render("init/vscode/settings.json", values),
        ".vscode/extensions.json": new.render("init/vscode/extensions.json", values),
        "README.md": new.render("init/README.md", values),
    }
    if answers.signing_key:
        made[".github/allowed_signers"] = new.render("init/allowed_signers", values)
    if not vendored:
        made |= schemas()
    if answers.forge != "none":
        made |= dict(_forge(answers, values))
    return made | example(answers, values["schemas"])


def schemas() -> dict[str, str]:
    """The published schemas, for editors of a repository that does not hold the package."""
    folder = resources.files("edgetrain") / "schemas"
    names = [f"{kind.lower}.schema.json" for kind in KINDS]
    return {f"{new.SITE_SCHEMAS}/{name}": (folder / name).read_text(encoding="utf-8") for name in names}


def example(answers: Answers, folder: str) -> dict[str, str]:
    """A target, a model, and an experiment that trains on rows which its script invents."""
    settings = new.TargetSettings(site=answers.site)
    return {
        **new.compute(TARGET, settings, owners=answers.platform or answers.owners, schemas=folder),
        **new.model(EXAMPLE, owners=answers.owners, schemas=folder),
        **new.experiment(EXAMPLE, model=EXAMPLE, compute=TARGET, owners=answers.owners, schemas=folder),
    }


def steps(given: Answers) -> tuple[Step, ...]:
    """What people must do on the forge and at the site."""
    return checklist(completed(given))


def _forge(answers: Answers, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield ".github/CODEOWNERS", new.render("init/CODEOWNERS", values)
    yield ".github/dependabot.yml", new.render("init/dependabot.yml", values)
    yield ".github/rulesets/main.json", new.render("init/ruleset.json", values)
    yield ".github/pull_request_template.md", new.render("init/pull_request/default.md", values)
    for name in TEMPLATES:
        path = f".github/PULL_REQUEST_TEMPLATE/{name}.md"
        yield path, new.render(f"init/pull_request/{name}.md", values)
    for name in FORMS:
        yield f".github/ISSUE_TEMPLATE/{name}.yml", new.render(f"init/issue/{name}.yml", values)
    for name, template in WORKFLOWS.items():
        yield f".github/workflows/{name}.yml", new.render(f"init/{template}", values)
    for name, about, cron in SITE_WORKFLOWS:
        minutes, commands = COMMANDS.get(name, (0, ())) if values["oidc"] else (0, ())
        more = {**values, "job": name, "about": about, "cron": cron, "minutes": minutes, "commands": commands}
        yield f".github/workflows/{name}.yml", new.render("init/workflows/site.yml", more)


def _values(answers: Answers, vendored: bool) -> dict[str, Any]:
    repository, sha = answers.pin
    on_forge = answers.forge != "none"
    name = answers.repository.partition("/")[2].lower()
    return {
        **vars(answers),
        "name": name if new.NAME.fullmatch(name) else answers.site,
        "schemas": new.SCHEMAS if vendored else new.SITE_SCHEMAS,
        "vendored": vendored,
        "oidc": answers.forge == "github" and answers.workspace == "azureml",
        "pin": (repository, sha) if on_forge else None,
        "calls": f"{repository}/.github/workflows",
        "home": f"{answers.server}/{repository}" if on_forge else "docs",
        "signed": on_forge or bool(answers.signing_key),
        "secrets": secrets(answers),
        "actions": ACTIONS,
        "environment": ENVIRONMENT,
        "datastore": DATASTORE,
        "machine": MACHINE,
        "check": "check" if answers.forge == "ghes" else "check / check",
        "app_number": answers.app if answers.app.isdecimal() else "0",
        "checklist": checklist(answers),
    }


def secrets(answers: Answers) -> dict[str, dict[str, str]]:
    """The secrets that the configuration names, and where each comes from."""
    found: dict[str, dict[str, str]] = {}
    if answers.forge != "none":
        found["app-key"] = {"file": f"{KEYS}/app-key"}
        found["github-token"] = {"environment": "GITHUB_TOKEN"}
    if answers.forge != "none" or answers.signing_key:
        found["machine-key"] = {"file": f"{KEYS}/machine-key"}
    if answers.forge == "ghes" and answers.workspace == "azureml":
        found["azure-certificate"] = {"file": f"{KEYS}/azure-certificate.pem"}
    return found
