"""The story of a version: told whole, in three forms, with every doubt that a reader should have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.desired import Desired
from edgetrain.core.errors import UsageError
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.record import Record
from edgetrain.reconcile.audit import Facts, audit, channel_moves, tell
from edgetrain.reconcile.lookup import version_named
from edgetrain.render.audit import audit_json, audit_markdown, audit_text
from edgetrain.render.hands import Hand
from edgetrain.render.story import Story
from tests.apply.site import SmallSite
from tests.outputs import sound
from tests.reconcile import builders as b

GOLDEN = Path(__file__).parent / "golden"


def case(**changes: Any) -> tuple[Desired, list[Record], ModelVersion]:
    """Version 2, released, in production, rolled back, back again."""
    run = b.run(metricsSource="evaluated", **changes)
    two = b.version(run, 2)
    first = b.moved(two, 1, 2, follows=None, number=2, ordinal=4)
    # A move of another version's, between the two: its record lies beside version 1.
    one = b.version(b.run(0.5), 1)
    back = b.moved(one, 2, 1, follows=first, number=2, ordinal=5)
    again = b.moved(two, 1, 2, follows=back, number=3, ordinal=6)
    records = [run, b.released(two), first, back, again]
    return b.desired(two, one, of=b.model(channels={"production": 2})), records, two


def story(**changes: Any) -> Story:
    desired, records, version = case()
    return tell(desired, b.recorded(*records), version, b.facts(*records, **changes))


def unreleased(**changes: Any) -> Story:
    """A merged version that no apply has released yet: history alone tells of its approval."""
    run = b.run(metricsSource="evaluated")
    version = b.version(run, 1)
    return tell(b.desired(version), b.recorded(run), version, b.facts(run, **changes))


def doubts(found: Story) -> list[str]:
    return [doubt.name for doubt in found.doubts]


def test_a_clean_story_in_three_forms(golden: Callable[[Path, str], None]) -> None:
    found = story()
    assert found.doubts == ()
    golden(GOLDEN / "audit.txt", audit_text(found))
    golden(GOLDEN / "audit.md", audit_markdown(found))
    golden(GOLDEN / "audit.json", audit_json(found))
    sound("audit", audit_json(found))


def test_a_doubtful_story(golden: Callable[[Path, str], None]) -> None:
    plain = dict.fromkeys(b.ISOLATION, False)
    target = {"name": "runner", "type": "local", "site": "ward", "egress": "advisory", "isolation": plain}
    egress = {"level": "advisory", "logs": "site", "files": 1, "bytes": 10, "waivers": []}
    run = b.run(target=target, egress=egress, provenance={"proposer": b.DANA, "approvers": [b.DANA]})
    version = b.version(run, 1)
    facts = b.facts(run, signers=False, shallow=True, version=Hand(certain=False))
    found = tell(b.desired(version), b.recorded(run), version, facts)
    golden(GOLDEN / "audit-doubtful.txt", audit_text(found))


def test_channel_moves_in_and_out_follow_the_chain() -> None:
    desired, records, version = case()
    # Ordinals are those of a clone that lost them: the chain alone gives the order.
    shuffled = [replace(record, ordinal=0) for record in reversed(records)]
    found = tell(desired, b.recorded(*shuffled), version, b.facts())
    assert [(move.before, move.after) for move in found.moves] == [(1, 2), (2, 1), (1, 2)]
    assert found.channels == ("production",)


def test_a_chain_that_bites_its_tail_ends() -> None:
    two = b.version(b.run(), 2)
    first = b.moved(two, None, 2, follows=None, number=2, ordinal=1)
    other = b.moved(two, 2, None, follows=first, number=3, ordinal=2)
    forged = b.moved(two, 2, 2, follows=first, number=4, ordinal=3)
    found = channel_moves(b.recorded(first, other, forged), "triage")
    assert found[0] == first
    assert len(found) == 2


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "no signers": ({"signers": False}, "SignersUnknown"),
    "shallow": ({"shallow": True}, "ShallowClone"),
    "nobody approved": ({"version": Hand(b.DANA, (), "d" * 40)}, "ApproverUnknown"),
    "self-approved": ({"version": Hand(b.DANA, ("D. Scientist <DANA@example.org>",), "d" * 40)}, "SelfApproved"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_history_leaves_open_is_a_doubt(name: str) -> None:
    changes, expected = CHANGES[name]
    assert doubts(unreleased(**changes)) == [expected]


def test_two_approvers_of_whom_one_proposed_are_no_self_approval() -> None:
    assert doubts(unreleased(version=Hand(b.DANA, (b.DANA, b.RAVI), "d" * 40))) == []


def test_a_release_record_that_history_contradicts_is_a_doubt() -> None:
    other = Hand(b.DANA, ("Mallory <m@example.org>",), "d" * 40)
    assert doubts(story(version=other)) == ["ApprovalDiffers"]
    found = story(version=replace(other, certain=False))
    assert (doubts(found), found.approved.approvers) == ([], (b.RAVI,))


@pytest.mark.parametrize("state", ["none", "bad", "unknown"])
def test_a_record_without_a_good_signature_is_a_doubt(state: str) -> None:
    desired, records, version = case()
    facts = b.facts(*records)
    signatures = {**facts.signatures, records[0].path: (state, "")}
    found = tell(desired, b.recorded(*records), version, replace(facts, signatures=signatures))
    assert doubts(found) == ["RecordUnsigned"]
    assert records[0].path in found.doubts[0].what


ISOLATION = {
    "advisory": ({"egress": "advisory"}, "advisory", ["EgressAdvisory"]),
    "without a sandbox": (
        {"egress": "advisory", "isolation": dict.fromkeys(b.ISOLATION, False)},
        "advisory",
        ["EgressAdvisory", "Unsandboxed"],
    ),
    "in part": ({"isolation": {**b.ISOLATION, "readOnly": False}}, "enforced", ["IsolationIncomplete"]),
}


@pytest.mark.parametrize("name", ISOLATION)
def test_weak_isolation_is_a_doubt(name: str) -> None:
    target, level, expected = ISOLATION[name]
    base = {"name": "runner", "type": "local", "site": "ward", "egress": "enforced", "isolation": b.ISOLATION}
    egress = {"level": level, "logs": "site", "files": 1, "bytes": 10, "waivers": []}
    desired, records, version = case(target={**base, **target}, egress=egress)
    found = tell(desired, b.recorded(*records), version, b.facts(*records))
    assert doubts(found) == expected


def test_self_reported_metrics_and_waivers_are_doubts() -> None:
    waiver = {"code": "E613", "path": "a.py", "reason": "why | so", "owner": "@h/ds", "expires": "2027-01-01"}
    code = {"files": 2, "bytes": 1_500, "digest": "sha256:" + "c0" * 32}
    egress = {"level": "enforced", "logs": "forge", "files": 1, "bytes": 10, "waivers": [waiver], "code": code}
    run = b.run(egress=egress)
    version = b.version(run, 1)
    found = tell(b.desired(version), b.recorded(run), version, b.facts(run))
    assert doubts(found) == ["Waived", "SelfReported"]
    text = audit_text(found)
    assert re.search(r"waiver +E613 in a\.py until 2027-01-01, @h/ds: why \| so\n", text)
    assert re.search(r"code given +2 files, 1\.5 kB, sha256:c0c0", text)
    assert "why &#124; so" in audit_markdown(found)


def test_the_content_check_is_told_and_a_sample_is_a_doubt() -> None:
    finding = {"code": "E706", "where": "output model", "what": "keeps rows", "waived": True}
    check = {"complete": True, "level": "enforced", "files": 1, "bytes": 2_000, "fingerprints": 77, "seconds": 0.1}
    egress = {"level": "enforced", "logs": "site", "files": 1, "bytes": 10, "waivers": []}
    for coverage, share, expected in ((1, "all", []), (0.05, "5 %", ["ContentSampled"])):
        run = b.run(egress=egress | {"check": check | {"coverage": coverage, "findings": [finding]}})
        version = b.version(run, 1)
        found = tell(b.desired(version), b.recorded(run), version, b.facts(run))
        assert doubts(found) == [*expected, "SelfReported"]
        text = audit_text(found)
        assert re.search(rf"content check +2\.0 kB compared with {share} of the training data, 77 fing", text)
        assert re.search(r"found, waived +E706 in output model: keeps rows", text)


def test_a_version_that_does_not_repeat_its_record_is_a_doubt() -> None:
    run = b.run(metricsSource="evaluated")
    version = b.version(run, 1, metrics={"auroc": 0.99})
    found = tell(b.desired(version), b.recorded(run), version, b.facts(run))
    assert doubts(found) == ["DiffersFromRecord"]
    assert "metrics" in found.doubts[0].what


def test_a_version_without_its_record_is_told_as_far_as_it_goes() -> None:
    run = b.run()
    version = ModelVersion.from_document(
        b.document(
            "models/triage/versions/1.yaml",
            "ModelVersion",
            "triage-1",
            {
                "model": "triage",
                "version": 1,
                "run": {"experiment": "scan", "identity": run.identity, "attempt": 1, "record": run.digest},
            },
        )
    )
    found = tell(b.desired(version), b.recorded(), version, b.facts())
    assert "RunRecordMissing" in doubts(found)
    for rendered in (audit_text(found), audit_markdown(found)):
        assert "not in git" in rendered
    assert sound("audit", audit_json(found))["training"] is None


def test_withdrawal_is_told_before_and_after_its_record() -> None:
    run = b.run()
    version = b.version(run, 1)
    wanted = b.desired(version, of=b.model(withdrawn={"1": "wrong labels"}))
    before = tell(wanted, b.recorded(run), version, b.facts(run))
    assert before.withdrawal is not None
    assert (before.withdrawal.why, before.withdrawal.recorded) == ("wrong labels", False)
    record = b.withdrawn(version, "wrong labels", number=1, ordinal=2)
    after = tell(wanted, b.recorded(run, record), version, b.facts(run, record))
    assert after.withdrawal is not None
    assert after.withdrawal.recorded
    assert "withdrawn: wrong labels" in audit_text(after)


def test_hostile_values_stay_values() -> None:
    evil = "x\x1b[31m\n| a | b |\n# Heading @someone <script>`"
    run = b.run(message=evil)
    version = b.version(run, 1, command=evil)
    found = tell(b.desired(version), b.recorded(run), version, b.facts(run))
    text, markdown = audit_text(found), audit_markdown(found)
    assert "\x1b" not in text + markdown
    assert "\n# Heading" not in markdown
    assert "<script>" not in markdown
    assert sound("audit", audit_json(found))["source"]["command"] == evil


def test_facts_hold_what_tell_needs() -> None:
    assert set(Facts.__dataclass_fields__) == set(vars(b.facts()))


def test_versions_by_number_and_channel() -> None:
    desired, _, version = case()
    assert version_named(desired, (), "triage@2") == version
    assert version_named(desired, (), "triage@production") == version


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("triage", "MODEL@NUMBER"),
        ("triag@2", 'did you mean "triage"?'),
        ("triage@9", "not on main"),
        ("triage@prodution", 'did you mean "production"?'),
        ("triage@0", "no channel"),
        ("a@b@c", "MODEL@NUMBER"),
        ("\x1b@1", "no model"),
    ],
)
def test_a_wrong_name_says_what_to_write(text: str, hint: str) -> None:
    desired, _, _ = case()
    with pytest.raises(UsageError) as caught:
        version_named(desired, (), text)
    assert hint in f"{caught.value.message} {caught.value.fix}"
    assert "\x1b" not in caught.value.message


# --- on a real history -------------------------------------------------------------------------------


@pytest.fixture
def signed(tmp_path: Path) -> SmallSite:
    """A site whose machine signs, and where Ravi approves what Dana proposes."""
    site = SmallSite(tmp_path / "a site").make()
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    site.write(".github/allowed_signers", f'machine@example.org namespaces="git" {public}\n')
    text = (site.clone / "edgetrain.yaml").read_text()
    machine = "  machine: {name: machine, email: machine@example.org, signingKey: {secret: key}}\n"
    site.write(
        "edgetrain.yaml", f"{text}  secrets: {{key: {{source: {{file: {json.dumps(str(key))}}}}}}}\n{machine}"
    )
    site.push("Sign records")
    return site


def merge(site: SmallSite, branch: str) -> None:
    message = f"Merge pull request #12 from x/y\n\nApproved-by: {b.RAVI}"
    site._git("merge", "--quiet", "--no-ff", "-m", message, branch)
    site._git("push", "--quiet", "origin", "main")


@pytest.mark.needs("ssh-keygen")
@pytest.mark.needs("git>=2.34")
def test_a_signed_and_approved_version(signed: SmallSite, tmp_path: Path) -> None:
    signed._git("checkout", "--quiet", "-b", "proposal")
    signed.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    signed._git("commit", "--quiet", "-am", "Shift less")
    signed.sync()
    merge(signed, "proposal")
    signed.apply()
    signed.sync()
    merge(signed, "origin/edgetrain/proposal/mean-1")
    signed.point(1)
    signed.push("Production is 1")
    assert signed.apply().good

    found = audit(signed.clone, "mean@1")
    assert {paper.signature for paper in found.papers} == {"good"}
    assert {paper.signer for paper in found.papers} == {"machine@example.org"}
    assert found.source.proposed.approvers == (b.RAVI,)
    assert found.source.proposed.pull_request == "#12"
    assert found.approved.proposer == "machine <machine@example.org>"
    assert found.approved.approvers == (b.RAVI,)
    assert [(m.channel, m.before, m.after, m.hand.proposer) for m in found.moves] == [
        ("production", None, 1, "Dana <dana@example.org>")
    ]
    assert not {"ApproverUnknown", "RecordUnsigned", "SignersUnknown", "ShallowClone"} & set(doubts(found))

    shallow = tmp_path / "shallow"
    clone = ["git", "clone", "--quiet", "--depth", "1", f"file://{signed.remote}", str(shallow)]
    subprocess.run(clone, check=True)
    cut = audit(shallow, "mean@1")
    assert {"ShallowClone", "RecordUnsigned"} <= set(doubts(cut))
    assert cut.release is not None
    assert found.release is not None
    assert cut.release.digest == found.release.digest
