"""What a target is told of a run: above all whether it may run where nothing holds the script back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.reconcile.facts import run_spec
from edgetrain.reconcile.planning import open_site
from edgetrain.reconcile.state import read_work_tree
from edgetrain.repo.git import Git
from tests.apply.site import SmallSite

WAIVER = "  egress: {waivers: [{code: P515, reason: none there, owner: '@example/ds', expires: '2099-01-01'}]}\n"


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


def required(site: SmallSite, attached: bool) -> bool:
    """Whether the run of `mean` is refused on a target that does not enforce egress."""
    state = read_work_tree(Git.find(site.clone))
    experiment = state.desired.experiments["mean"]
    data = {"table": "sha256:" + "0" * 64}
    place = open_site(state, None)
    spec = run_spec(experiment, {}, "mean-0-1", site.clone, b"", "3.11", place, data, attached)
    return spec.require_enforced


def test_only_a_waiver_lets_azure_ml_run_where_egress_is_advisory(site: SmallSite) -> None:
    # The site's own runner may go without a sandbox here (`allowUnsandboxed`); Azure ML may not for that.
    assert not required(site, attached=False)
    assert required(site, attached=True)
    site.edit("experiments/mean/experiment.yaml", "  seed: 1\n", "  seed: 1\n" + WAIVER)
    assert not required(site, attached=True)


def test_a_datastore_that_requires_enforced_egress_is_never_waived(site: SmallSite) -> None:
    site.edit("experiments/mean/experiment.yaml", "  seed: 1\n", "  seed: 1\n" + WAIVER)
    site.edit("edgetrain.yaml", "store: {type: folder,", "store: {type: folder, requireEgress: enforced,")
    assert required(site, attached=True)
    assert required(site, attached=False)
