"""Records: read back as written, refused when altered, and the state that is folded from them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from edgetrain.core.decide import version_spec
from edgetrain.core.digest import (
    MAX_DEPTH,
    _integer,
    _quick,
    _quickly,
    canonical,
    digest_of,
    parse_canonical,
    tree_digest,
)
from edgetrain.core.record import Outcome, Record, is_record_path, parse_record, run_path, serialise
from edgetrain.core.recorded import Recorded
from tests.core import build

STATE = build.desired()
RUN = build.run(STATE)
EVERY: list[Record] = [
    RUN,
    build.evaluation(RUN, "not_better"),
    build.proposal(RUN, 3),
    build.released(RUN, 1),
    build.moved("mean", "production", None, 1, 2),
    build.withdrawal("mean", 1, 3),
]
SAMPLES: dict[str, Record] = {f"{r.kind}-{r.data.get('event', '')}": r for r in EVERY}
finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(categories=["Ll"], max_codepoint=0x7F), min_size=1, max_size=8)


DIGEST = "sha256:" + "5e" * 32


@given(st.dictionaries(names, finite | st.integers(1 - 2**53, 2**53 - 1), max_size=5), st.integers(1, 10**6))
def test_a_run_record_comes_back_as_written(metrics: dict[str, float], attempt: int) -> None:
    data = {**build.run_data(STATE, metrics=metrics), "attempt": attempt}
    content = serialise(data)
    record = parse_record(run_path("mean", data["identity"], attempt), content)
    assert record.data == data
    assert serialise(record.data) == content
    assert record.digest == digest_of(data)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_any_altered_byte_is_refused_or_gives_another_digest(name: str, data: st.DataObject) -> None:
    record = SAMPLES[name]
    content = bytearray(serialise(record.data))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    try:
        read = parse_record(record.path, bytes(content))
    except ValueError:
        return
    assert read.digest != record.digest


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_rubbish_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_record(RUN.path, content)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_part_that_is_read_later_is_asked_for(name: str) -> None:
    """Take each value away, or give it another type: refused, or nothing that reads records stumbles."""
    record = SAMPLES[name]
    refused = 0
    for pointer in pointers(record.data):
        for spoilt in (spoil(record.data, pointer, None), spoil(record.data, pointer, ["x"])):
            if "identityOf" in spoilt and isinstance(spoilt["identityOf"], dict):
                spoilt["identity"] = digest_of(spoilt["identityOf"])
            path = record.path
            if isinstance(spoilt.get("identity"), str) and record is RUN:
                path = run_path("mean", spoilt["identity"], 1)
            try:
                read = parse_record(path, serialise(spoilt))
            except ValueError:
                refused += 1
                continue
            use(Recorded.of([read]))
    assert refused > 5


@pytest.mark.parametrize(
    "file",
    [
        "model.onnx",
        {"path": "m", "size": "1", "digest": DIGEST},
        {"path": "m", "size": True, "digest": DIGEST},
        {"path": "m", "digest": DIGEST},
        {"path": "m", "size": 1, "digest": DIGEST[:-1]},
        {"path": "m", "size": 1},
    ],
    ids=repr,
)
def test_every_file_of_an_output_has_its_digest_and_size(file: Any) -> None:
    output = {"digest": DIGEST, "files": [{"path": "m", "size": 1, "digest": DIGEST}]}
    sound = {**RUN.data, "outputs": {"model": output}}
    parse_record(RUN.path, serialise(sound))
    output["files"].append(file)
    with pytest.raises(ValueError, match="output 'model' has no list of files with their digests and sizes"):
        parse_record(RUN.path, serialise(sound))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"outcome": "great"}, "outcome is not a known one"),
        ({"selfReported": ["x"]}, "selfReported is not an object"),
        ({"selfReported": {"score": True}}, "metric 'score' is not a number"),
        ({"workspace": "mlflow"}, "workspace is not an object"),
    ],
)
def test_what_a_run_record_may_have_is_looked_at_too(changed: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_record(RUN.path, serialise({**RUN.data, **changed}))


@pytest.mark.parametrize(
    ("registered", "workspace"),
    [
        ({"type": "mlflow", "version": "1"}, "mlflow"),
        ({"type": "azureml", "version": "1", "workspace": "edge/ml"}, "azureml edge/ml"),
        ({"version": "1"}, None),
        ({"type": 1}, None),
        ("mlflow", None),
        (None, None),
    ],
)
def test_a_release_tells_its_workspace_if_it_does(registered: Any, workspace: str | None) -> None:
    record = build.released(RUN, 1)
    data = {**record.data, "registered": registered}
    assert replace(record, data=data).workspace == workspace


def pointers(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [at]
    return [at] * bool(at) + [p for key, item in value.items() for p in pointers(item, (*at, key))]


def spoil(data: Any, pointer: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy without the value (None), or with another."""
    made: dict[str, Any] = copy.deepcopy(dict(data))
    at = made
    for key in pointer[:-1]:
        at = at[key]
    if value is None:
        del at[pointer[-1]]
    else:
        at[pointer[-1]] = value
    return made


def use(recorded: Recorded) -> None:
    """What other code asks of records."""
    for run in recorded.runs:
        version_spec(run, 1, recorded.gates(run), recorded.judged(run))
        assert run.input_digests.keys() == run.data["inputs"].keys()
        assert recorded.outcome(run) in set(Outcome)
    for release in recorded.releases:
        recorded.channels(release.model)
        recorded.withdrawn(release.model)
        assert recorded.next_release_number(release.model, release.version) > 1
        if release.event == "released":
            assert release.data["image"]["registry"] + release.data["image"]["repository"]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (RUN.path.replace("mean", "other"), "experiment is not that"),
        (RUN.path.replace("-1.json", "-2.json"), "attempt is not that"),
        (RUN.path.replace("-1.json", "-01.json"), "attempt is not that"),
        ("experiments/mean/runs/000000000000-1.json", "identity is not that"),
        ("models/mean/versions/1.release-1.json", "does not belong"),
    ],
)
def test_a_record_belongs_to_one_path(path: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_record(path, serialise(RUN.data))


def test_the_identity_is_proved_by_its_fields() -> None:
    data = {**RUN.data, "identityOf": {**RUN.data["identityOf"], "seed": 2}}
    with pytest.raises(ValueError, match="identity is not the digest"):
        parse_record(RUN.path, serialise(data))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": 1}', b'{"a":1,"a":1}', b"NaN", b'"\\ud800"', b"1" * 5000]
)
def test_other_forms_of_json_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_canonical(content)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(Outcome)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(ANY)
@example({"\U0001f600": 1, "\ufb33": 2})
@example({"a": [1e-4, 1e-5, 1e15, 1e16, 0.1 + 0.2, -0.0, 5e-324, 123456789012.5, 999999999999999.9]})
# Alone, for a neighbour that only the slow way writes takes the whole along.
@example([9.9e-5])
@example([1e-5, 0.5])
@example([1e15 + 0.5])
@example([-0.0])
@example([2.0])
@example({1: 2})
@example([1e300, 2**53, True])
@example("\x7f\x1f\u2028\ud7ff\ue000")
def test_the_canonical_form_is_rfc_8785s(value: Any) -> None:
    try:
        form = rfc8785.dumps(value)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            canonical(value)
    else:
        assert canonical(value) == form


# Forms that are nearly canonical.
NUMBERS = st.sampled_from([
    "0", "-0", "1.0", "0.5", "1e5", "1E5", "0.0001", "0.00001", "1e-7", "1e21", "1e+21", "100000000000000000000",
    "9007199254740991", "9007199254740992", "9007199254740993", "999999999999999.9", "123456789012345.67", "NaN",
])  # fmt: skip
FORMS = st.recursive(
    NUMBERS | st.sampled_from(['"a"', '"\\u0061"', '"\\/"', '"é"', '"\\ud800"', "null", "true", " 1", "1 "]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
        | st.lists(st.tuples(st.sampled_from(["a", "b", "\U0001f600", "\ufb33"]), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f'"{key}":{item}' for key, item in pairs) + "}"
        )
    ),
    max_leaves=6,
)


@given(FORMS)
@example('{"\ufb33":1,"\U0001f600":1}')
@example('{"\U0001f600":1,"\ufb33":1}')
@example("1e21")
def test_what_is_read_quickly_is_canonical(text: str) -> None:
    data = text.encode()
    value = _quickly(data + b"\n")
    try:
        slow = json.loads(text, parse_int=_integer)
        right = rfc8785.dumps(slow) == data
    except ValueError:
        slow, right = None, False
    assert value is None or (right and repr(value) == repr(slow))
    if right:
        assert repr(parse_canonical(data)) == repr(slow)
    else:
        with pytest.raises(ValueError, match=r"."):
            parse_canonical(data)


def test_what_records_hold_is_written_quickly() -> None:
    value = {"a": [1, "x", None, True, 0.5], "é": ({"c": "\ud7ff"}, -(2**53) + 1, 2**53 - 1)}
    assert _quick(value) == canonical(value) == rfc8785.dumps(json.loads(json.dumps(value)))
    assert [_quick(other) for other in (1.0, 1e-5, 1e15, 2**53, {1: 2}, {"a"}, b"a", float("nan"), "\ue000")] == [
        None
    ] * 9


def test_only_depth_is_bounded_not_the_number_of_lists() -> None:
    """Such a record is not read quickly, for its brackets might lie in each other."""
    value = [[[at]] for at in range(MAX_DEPTH)]
    assert parse_canonical(canonical(value)) == value
    deepest: Any = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert parse_canonical(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH) == deepest
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):
        parse_canonical(b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1))


def test_which_paths_are_the_machines() -> None:
    assert all(is_record_path(record.path) for record in EVERY)
    assert not is_record_path("models/mean/versions/1.yaml")
    assert not is_record_path("experiments/mean/runs/x-1.json")
    assert not is_record_path("experiments/a/b/runs/0123456789ab-1.json")


def test_the_last_evaluation_holds() -> None:
    first, second = build.evaluation(RUN, "not_better"), build.evaluation(RUN, "candidate", "sha256:new", number=2)
    assert Recorded.of([RUN]).outcome(RUN) is Outcome.CANDIDATE
    assert Recorded.of([RUN, first]).outcome(RUN) is Outcome.NOT_BETTER
    # By number, whatever order the files were found in.
    recorded = Recorded.of([second, RUN, first])
    assert recorded.outcome(RUN) is Outcome.CANDIDATE
    assert recorded.gates(RUN)["digest"] == "sha256:new"


@given(st.permutations(range(4)))
def test_channels_follow_the_chain_in_any_order_of_files(order: list[int]) -> None:
    moves: list[Record] = []
    for number, (old, new) in enumerate([(None, 1), (1, 2), (2, 1), (1, 2)], 1):
        moves.append(build.moved("mean", "production", old, new, number, moves[-1] if moves else None))
    recorded = Recorded.of([moves[index] for index in order])
    assert recorded.channels("mean") == {"production": 2}
    head = recorded.channel_head("mean", "production")
    assert head is not None
    assert head.digest == moves[-1].digest


def test_a_removed_channel_points_nowhere() -> None:
    made = build.moved("mean", "staging", None, 1, 1)
    gone = build.moved("mean", "staging", 1, None, 2, made)
    assert Recorded.of([made, gone]).channels("mean") == {}
    assert Recorded.of([made, gone]).next_release_number("mean", 1) == 3


entries = st.dictionaries(st.text(min_size=1, max_size=5), st.binary(max_size=4), max_size=6)


@given(entries, st.randoms())
def test_tree_digests_hang_on_names_and_contents_only(tree: dict[str, bytes], random: Any) -> None:
    listed = [(name, "sha256:" + content.hex().ljust(64, "0")) for name, content in tree.items()]
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert tree_digest(listed) == tree_digest(shuffled)
    assert tree_digest(listed) != tree_digest([*listed, ("another name", "sha256:" + "0" * 64)])
