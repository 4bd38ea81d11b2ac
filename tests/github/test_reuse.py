"""Another repository uses edgetrain from workflows of its own, of ten lines or so each."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.github.elsewhere import EDGETRAIN, Elsewhere
from tests.github.site import REPOSITORY

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")
CHECKOUT = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0"
PULL_REQUEST = """\
name: pull-request
on: pull_request
permissions: {}
jobs:
  edgetrain:
    uses: hosp/edgetrain/.github/workflows/pull-request.yml@SHA
    permissions: {contents: read}
    with: {edgetrain-repository: hosp/edgetrain, edgetrain-ref: SHA}
"""
COMMENT = """\
name: comment
on: {workflow_run: {workflows: [pull-request], types: [completed]}}
permissions: {}
jobs:
  edgetrain:
    uses: hosp/edgetrain/.github/workflows/comment.yml@SHA
    permissions: {actions: read, contents: read, pull-requests: write}
    with: {edgetrain-repository: hosp/edgetrain, edgetrain-ref: SHA}
"""
APPLY = f"""\
name: apply
on: {{push: {{branches: [main]}}}}
permissions: {{}}
jobs:
  edgetrain:
    runs-on: [self-hosted, edgetrain]
    permissions: {{contents: read}}
    steps:
      - uses: {CHECKOUT}
        with: {{fetch-depth: 0, persist-credentials: false}}
      - uses: hosp/edgetrain/.github/actions/apply@SHA
"""


class TenLines(Elsewhere):
    """One with the three workflows above."""

    def workflows(self) -> dict[str, str]:
        texts = {"pull-request": PULL_REQUEST, "comment": COMMENT, "apply": APPLY}
        return {name: text.replace("SHA", self.sha) for name, text in texts.items()}


def test_ten_lines_each() -> None:
    for text in (PULL_REQUEST, COMMENT, APPLY):
        assert yaml.safe_load(text)["permissions"] == {}
        assert len(text.splitlines()) <= 11


def test_a_pull_request_is_checked_commented_and_applied(make: Any) -> None:
    site = make(TenLines)
    number = site.propose(site.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4"))
    site.settle()
    assert site.only("pull-request.yml").conclusion == "success", site.only("pull-request.yml").log
    assert site.only("comment.yml").conclusion == "success", site.only("comment.yml").log
    assert "run/mean" in site.comment(number, "edgetrain:plan")
    site.approve_and_merge(number)
    site.settle()
    assert site.only("apply.yml").conclusion == "success", site.only("apply.yml").log
    assert len(list((site.state / "runs").glob("*"))) == 1
    assert REPOSITORY != EDGETRAIN
