"""A record that somebody pushed to main by hand: apply refuses, names the way out, and goes on after it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgetrain.core.digest import canonical
from edgetrain.core.errors import InvalidFiles
from edgetrain.reconcile.validate import validate
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")


@pytest.fixture(params=["signed", "unsigned"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> SmallSite:
    made = SmallSite(tmp_path / "a site").make()
    if request.param == "signed":
        key = tmp_path / "machine-key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text()
        made.write(".github/allowed_signers", f'edgetrain@localhost namespaces="git" {public}')
        signing = f"  secrets: {{machine-key: {{source: {{file: '{key}'}}}}}}\n"
        signing += "  machine: {name: edgetrain, email: edgetrain@localhost, signingKey: {secret: machine-key}}\n"
        made.edit("edgetrain.yaml", "  allowUnsandboxed", signing + "  allowUnsandboxed")
        made.push("Sign records")
    return made


def test_a_forged_record_stops_apply_until_it_is_reverted(site: SmallSite) -> None:
    assert site.apply().good
    site.merge_proposal(1, production=1)
    assert site.apply().good
    assert not site.apply().results
    site.sync()
    assert validate(site.clone, require_history=True) == [], "all that the machine wrote is its own"

    path, genuine = next((p, r) for p, r in site.records().items() if r["kind"] == "RunRecord")
    forged = path.replace("-1.json", "-2.json")
    assert forged != path
    site.write(forged, canonical({**genuine, "attempt": 2}).decode())
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.1")
    site.push("Sneak a better result in")
    before = site.branches(), site.records()

    with pytest.raises(InvalidFiles) as refused:
        site.apply()
    assert {(p.code, p.path) for p in refused.value.problems} == {("H404", forged)}
    assert "git revert" in refused.value.problems[0].fix
    assert (site.branches(), site.records()) == before, "nothing was done"
    ended = edgetrain("apply", cwd=site.clone)
    assert ended.code == 1
    assert "H404" in ended.out

    site._git("revert", "--no-edit", "HEAD")
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.2")
    site.push("Propose it properly")
    after = site.apply()
    assert after.good
    assert [result.outcome for result in after.results if result.outcome], "it trains again"
    assert validate(site.clone, require_history=True) == []


def test_a_removed_record_stops_apply_until_it_is_put_back(site: SmallSite) -> None:
    assert site.apply().good
    site.sync()
    path = next(p for p in site.records() if p.startswith("experiments/"))
    (site.clone / path).unlink()
    site.push("Tidy up")
    with pytest.raises(InvalidFiles) as refused:
        site.apply()
    assert [(p.code, p.path) for p in refused.value.problems if p.code == "H402"] == [("H402", path)]
    site._git("revert", "--no-edit", "HEAD")
    site._git("push", "--quiet", "origin", "main")
    assert site.apply().good
