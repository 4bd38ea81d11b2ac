"""Planning releases, channels and withdrawals; and that what was applied plans to nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from edgetrain.core.desired import Desired
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Effect, Operation, Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.planner import surprises
from edgetrain.core.planner.releases import MOST_INPUT_TAGS, registration_digest, registration_tags
from edgetrain.core.ports import WorkspaceModel, WorkspaceVersion
from edgetrain.core.record import Record, RunRecord
from edgetrain.core.recorded import Recorded
from tests.core import build
from tests.core.test_planner_runs import SEEN, changed

STATE = build.desired()
FIRST = build.run(STATE, ordinal=1)
SECOND = build.run(changed("shift: 0.5", "shift: 0.6"), ordinal=2)


def plan(state: Desired, *records: Record, observed: Observation | None = SEEN) -> Plan:
    return build_plan(state, Recorded.of(records), build.SERVED, observed)


def of(made: Plan, operation: Operation, model: str = "mean") -> list[Change]:
    return [c for c in made.changes if c.operation is operation and c.subject["model"] == model]


def with_channels(text: str, *runs: RunRecord, withdrawn: str = "{}") -> Desired:
    files = build.edited("models/mean/model.yaml", "{production: 2}", text)
    files = build.edited("models/mean/model.yaml", '{1: "wrong labels"}', withdrawn, files)
    return build.desired(build.with_versions(files, *runs))


# --- releases -----------------------------------------------------------------------------------------


def released_world(*runs: RunRecord, **channels: int) -> Observation:
    """What the providers show when all is as recorded."""
    released = [build.released(run, number) for number, run in enumerate(runs, 1)]
    images = [record.data["image"] for record in released]
    tags = {tag: image["digest"] for image in images for tag in image["tags"]}
    tags |= {name: images[number - 1]["digest"] for name, number in channels.items()}
    versions = {
        number: WorkspaceVersion(str(number), tags_of(run, number, images[number - 1]["digest"]))
        for number, run in enumerate(runs, 1)
    }
    return replace(
        SEEN,
        workspace={"mean": WorkspaceModel(versions, channels)},
        tags={("local", "mean"): tags},
        images=frozenset((i["registry"], i["repository"], i["digest"]) for i in images),
    )


def version_of(run: RunRecord, number: int) -> ModelVersion:
    """The version that cites the run."""
    version = build.manifest(f"models/mean/versions/{number}.yaml", build.version_text(run, number))
    assert isinstance(version, ModelVersion)
    return version


def tags_of(run: RunRecord, number: int, image: str) -> dict[str, str]:
    """Our tags on the registered version that cites the run."""
    version = version_of(run, number)
    digest = registration_digest(version)
    return {**registration_tags(version, image), "edgetrain.version": str(number), "edgetrain.digest": digest}


def history(*runs: RunRecord) -> list[Record]:
    """Records of the runs' releases, and of production's way to the last."""
    records: list[Record] = [*runs]
    head: Record | None = None
    for number, run in enumerate(runs, 1):
        records.append(build.released(run, number))
        head = build.moved("mean", "production", number - 1 or None, number, 2, head)
        records.append(head)
    return records


def test_a_registered_version_tells_every_digest_that_it_stands_on() -> None:
    version = version_of(FIRST, 1)
    spec = version.spec
    told = registration_tags(version, "sha256:image")
    inputs = {name: entry["digest"] for name, entry in spec["inputs"].items()}
    assert inputs
    wanted = {
        "edgetrain.identity": FIRST.identity,
        "edgetrain.record": FIRST.digest,
        "edgetrain.code": spec["code"],
        "edgetrain.image": "sha256:image",
        **{f"edgetrain.input.{name}": digest for name, digest in inputs.items()},
    }
    assert wanted.items() <= told.items()
    assert "edgetrain.image" not in registration_tags(version)
    stood = {"requirements": "sha256:lock", "image": "acr.example/train@sha256:base"}
    many = {f"i{number}": {"digest": f"sha256:{number}"} for number in range(100)}
    crowded = replace(version, spec={**spec, "environment": stood, "inputs": many})
    told = registration_tags(crowded)
    assert (told["edgetrain.requirements"], told["edgetrain.base"]) == tuple(stood.values())
    assert len(told) < 20 and told["edgetrain.inputs"].startswith("sha256:")


@pytest.mark.parametrize(("inputs", "tags"), [(1, 1), (MOST_INPUT_TAGS, MOST_INPUT_TAGS), (MOST_INPUT_TAGS + 1, 1)])
def test_many_inputs_are_one_tag(inputs: int, tags: int) -> None:
    version = build.desired(build.with_versions(build.FILES, FIRST)).versions["mean", 1]
    entries = {f"i{at}": {"digest": build.DATA} for at in range(inputs)}
    told = registration_tags(replace(version, spec={**version.spec, "inputs": entries}))
    assert len([name for name in told if name.startswith("edgetrain.input")]) == tags


def test_a_merged_version_is_released_in_order() -> None:
    made = plan(with_channels("{production: 1}", FIRST), FIRST)
    mine = [c for c in made.changes if c.subject.get("model") == "mean" and not c.conditional]
    assert [c.operation.value for c in mine] == ["register", "push", "tag", "release", "move"]
    assert {c.effect for c in mine} == {Effect.CREATE}
    for before, change in itertools.pairwise(mine):
        assert before.id in change.after


def test_what_is_released_plans_to_nothing() -> None:
    """Applied state, as records and as seen, leaves no change: offline and refreshed."""
    state = with_channels("{production: 2}", FIRST, SECOND)
    for observed in (None, released_world(FIRST, SECOND, production=2)):
        made = plan(state, *history(FIRST, SECOND), observed=observed)
        assert [c.id for c in made.changes if c.subject["model"] == "mean"] == []


def test_rollback_is_one_move_back() -> None:
    state = with_channels("{production: 1}", FIRST, SECOND)
    made = plan(state, *history(FIRST, SECOND), observed=released_world(FIRST, SECOND, production=2))
    [change] = [c for c in made.changes if c.subject["model"] == "mean"]
    assert (change.operation, change.effect, change.reason) == (Operation.MOVE, Effect.UPDATE, "ChannelMoved")
    assert (change.subject["from"], change.subject["to"]) == (2, 1)
    # The alias that stands where the channel was is no drift.
    assert [found.path for found in change.differences] == ["channels.production"]
    assert made.managed == 3


def test_a_removed_channel_is_a_deletion() -> None:
    made = plan(with_channels("{}", FIRST, SECOND), *history(FIRST, SECOND), observed=None)
    [change] = of(made, Operation.MOVE)
    assert (change.effect, change.subject["to"]) == (Effect.DELETE, None)
    assert made.count(Effect.DELETE) == 1


def test_withdrawn_versions_are_marked_once_and_hold_no_channel() -> None:
    state = with_channels("{production: 1}", FIRST, SECOND, withdrawn='{2: "bad"}')
    records = history(FIRST, SECOND)
    made = plan(state, *records, observed=None)
    assert [c.operation.value for c in made.changes if c.subject["model"] == "mean"] == ["move", "withdraw"]
    done = [*records, build.withdrawal("mean", 2, 3)]
    assert of(plan(state, *done, observed=None), Operation.WITHDRAW) == []
    # Pointing to it is refused by validate; the planner moves nothing there.
    barred = with_channels("{production: 2}", FIRST, SECOND, withdrawn='{2: "bad"}')
    assert of(plan(barred, FIRST, SECOND, observed=None), Operation.MOVE) == []


def test_a_version_withdrawn_before_its_release_is_not_released() -> None:
    state = with_channels("{}", FIRST, withdrawn='{1: "bad"}')
    assert [c.id for c in plan(state, FIRST, observed=None).changes if c.subject["model"] == "mean"] == []


# --- drift --------------------------------------------------------------------------------------------


def drifted(**facts: Any) -> tuple[Plan, Plan]:
    """The offline and the refreshed plan, with the world changed."""
    state = with_channels("{production: 2}", FIRST, SECOND)
    records = history(FIRST, SECOND)
    seen = replace(released_world(FIRST, SECOND, production=2), **facts)
    return plan(state, *records, observed=None), plan(state, *records, observed=seen)


def test_a_moved_alias_and_tag_are_surprises() -> None:
    world = released_world(FIRST, SECOND, production=2)
    alias = {"mean": WorkspaceModel(world.workspace["mean"].versions, {"production": 1})}
    offline, refreshed = drifted(workspace=alias)
    assert surprises(offline, refreshed) == {"channel/mean/production"}
    [change] = of(refreshed, Operation.MOVE)
    assert (change.reason, change.differences[0].path) == ("ChannelDrifted", "alias.production")
    # A tag that was moved is a surprise, even where the alias beside it is gone.
    moved = {("local", "mean"): {**world.tags["local", "mean"], "production": "sha256:else"}}
    offline, refreshed = drifted(
        tags=moved, workspace={"mean": WorkspaceModel(world.workspace["mean"].versions, {})}
    )
    assert surprises(offline, refreshed) == {"channel/mean/production"}
    tags = {("local", "mean"): {**world.tags["local", "mean"], "1": "sha256:else"}}
    offline, refreshed = drifted(tags=tags)
    assert surprises(offline, refreshed) == {"tag/mean@1/1"}


def test_what_is_gone_is_made_again_without_surprise() -> None:
    offline, refreshed = drifted(images=frozenset(), workspace={}, tags={})
    assert surprises(offline, refreshed) == set()
    assert {c.operation for c in refreshed.changes if c.subject["model"] == "mean"} == {
        Operation.REGISTER,
        Operation.PUSH,
        Operation.TAG,
        Operation.MOVE,
    }
    assert offline.digest != refreshed.digest


# --- another workspace ---------------------------------------------------------------------------------


def test_a_move_registers_what_is_released_and_nothing_else() -> None:
    state = with_channels("{production: 2}", FIRST, SECOND)
    configuration = build.desired(build.with_workspace()).configuration
    moved = replace(state, configuration=configuration)
    records = [
        build.record_of(r.path, {**r.data, "registered": {"type": "mlflow", "version": "1"}}, r.ordinal)
        if r.data.get("event") == "released"
        else r
        for r in history(FIRST, SECOND)
    ]
    served = {**build.SERVED, "workspace": ["azureml", "mlflow"]}
    for observed in (None, replace(released_world(FIRST, SECOND, production=2), workspace={})):
        made = build_plan(moved, Recorded.of(records), served, observed)
        mine = [c for c in made.changes if c.subject.get("model") == "mean"]
        assert [(c.id, c.reason) for c in mine] == [
            ("workspace/mean@1", "WorkspaceChanged"),
            ("workspace/mean@2", "WorkspaceChanged"),
        ]
        assert [(d.path, d.actual, d.desired) for d in mine[1].differences] == [
            ("workspace", "mlflow", "azureml rg-ml/ws"),
            ("alias.production", None, 2),
        ]
    done = [
        build._release("mean", number, 9, event="registered", registered=told, run="sha256:x", **{"from": "mlflow"})
        for number, told in ((n, {"type": "azureml", "workspace": "rg-ml/ws", "version": "7"}) for n in (1, 2))
    ]
    again = build_plan(moved, Recorded.of([*records, *done]), served, None)
    assert [c.id for c in again.changes if c.subject.get("model") == "mean"] == []


def test_tags_that_somebody_changed_are_drift_and_a_surprise() -> None:
    world = released_world(FIRST, SECOND, production=2).workspace["mean"]
    wrong = replace(world.versions[1], tags={**world.versions[1].tags, "edgetrain.digest": "sha256:else"})
    seen = replace(world, versions={**world.versions, 1: wrong}, foreign=("7", "8"))
    offline, refreshed = drifted(workspace={"mean": seen})
    assert surprises(offline, refreshed) == {"workspace/mean@1"}
    [change] = of(refreshed, Operation.REGISTER)
    assert (change.reason, [d.path for d in change.differences]) == ("WorkspaceDrifted", ["tags.edgetrain.digest"])
    assert refreshed.notes == (("foreign/mean", "registered by others, left alone: 7, 8"),)
