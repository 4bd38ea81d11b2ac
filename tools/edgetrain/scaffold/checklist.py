"""What people must do on the forge and at the site before a new repository drives itself, with where and how."""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit

import yaml

from edgetrain.core.step import Step
from edgetrain.scaffold.answers import GITHUB, Answers
from edgetrain.scaffold.new import render

KEYS = "/etc/edgetrain/secrets"
ENVIRONMENT = "edgetrain-release"
MACHINE = "edgetrain@localhost"
# What runs at the site: of all these, only data watch is never written out in the repository.
AT_THE_SITE = ("apply", "cancel", "data-watch", "doctor", "drift", "retry")
NEVER_OWN = ("data-watch",)
# What the App may do: push records, open proposals, read checks and settings. Not: change workflows.
APP_RIGHTS = {
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "checks": "read",
    "actions": "read",
    "administration": "read",
    "organization_self_hosted_runners": "read",
    "environments": "read",
    "secrets": "read",
    "actions_variables": "read",
}


def checklist(answers: Answers) -> tuple[Step, ...]:
    """All things to do, in the order in which they are done. The answers must be complete and checked."""
    owner = answers.repository.partition("/")[0]
    home = f"{answers.server}/{answers.repository}"
    form = {"name": f"edgetrain-{answers.site}"[:34], "url": home, "webhook_active": "false", "public": "false"}
    values = {
        **vars(answers),
        "app_form": urlencode(form | APP_RIGHTS),
        "app_number": answers.app if answers.app.isdecimal() else "",
        "environment": ENVIRONMENT,
        "foreign": answers.edgetrain.partition("/")[0].lower() != owner.lower(),
        "gh": "gh" if answers.server == GITHUB else f"GH_HOST={urlsplit(answers.server).netloc} gh",
        "home": home,
        "host": urlsplit(answers.server).netloc,
        "keys": KEYS,
        "machine": MACHINE,
        "owner": owner,
        "pin": answers.pin,
        "selected": json.dumps(selected_workflows(answers)),
    }
    steps = yaml.safe_load(render("init/checklist.yaml", values))
    return tuple(Step(**{**step, "commands": tuple(step.get("commands", ()))}) for step in steps)


def selected_workflows(answers: Answers) -> list[str]:
    """The workflows whose jobs the site's runner takes: where they are defined, called or written out."""
    oidc = answers.forge == "github" and answers.workspace == "azureml"
    repository, sha = answers.pin
    own, called = f"{answers.repository}/{{}}@refs/heads/{answers.branch}", f"{repository}/{{}}@{sha}"
    return [
        (own if oidc and name not in NEVER_OWN else called).format(f".github/workflows/{name}.yml")
        for name in AT_THE_SITE
    ]
