"""The filter grammar: what the client writes is understood, whatever the words in it; the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest
from azureml._restclient._odata import runs as odata
from hypothesis import given
from hypothesis import strategies as st

from azureml_emulator import filters
from azureml_emulator.message import Refused

RUN: dict[str, Any] = {
    "runId": "exp_1",
    "rootRunId": "exp_0",
    "parentRunId": None,
    "runNumber": 10,
    "status": "Completed",
    "target": "edge1",
    "runType": "azureml.scriptrun",
    "createdUtc": "2026-03-01T10:00:00.000000Z",
    "startTimeUtc": None,
    "tags": {"sha": "abc", "a b": "two words", "empty": None},
    "properties": {"azureml.runsource": "hyperdrive", "p": "1"},
    "runTypeV2": {"orchestrator": "Execution", "traits": ["automl"]},
}

KEYS = st.from_regex(r"[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+){0,2}", fullmatch=True).filter(
    lambda key: not {"eq", "ne", "gt", "ge", "lt", "le"} & set(key.lower().split(" "))
)
# A quote followed by what could go on the expression ends a value: there is no escaping to say otherwise.
VALUES = st.text(st.characters(exclude_categories=["C"], exclude_characters='"')).filter(lambda value: value != "")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("(ParentRunId eq null)", True),
        ("ParentRunId ne null", False),
        ('(Tags/sha eq "abc")', True),
        ('(Tags/sha eq "abd")', False),
        ("(Tags/sha eq abc)", True),
        ('(Tags/a b eq "two words")', True),
        ("(Tags/empty ne null or Tags/empty eq null)", True),
        ("(Tags/other ne null or Tags/other eq null)", False),
        ("(Tags/other eq null)", True),
        ("(Tags/empty eq null)", True),
        ('((Tags/sha eq "abc") and (ParentRunId eq null))', True),
        ('((Tags/sha eq "abc") and (Properties/p eq "2"))', False),
        ("(RunType eq hyperdrive or Properties/azureml.runsource eq hyperdrive)", True),
        ("(RunType eq pipeline or Properties/azureml.runsource eq pipeline)", False),
        ("RootRunId eq exp_0", True),
        ("(RootRunId eq exp_0 and RunId ne exp_1)", False),
        ("RunId eq exp_2 or RunId eq exp_1", True),
        ("RunId eq exp_2 or RunId eq exp_1 and Status eq Failed", False),
        ("(Status eq Completed)", True),
        ("(Target eq edge1)", True),
        ("(RunTypeV2/Orchestrator eq Execution)", True),
        ("(RunTypeV2/Traits/automl ne null) or (RunTypeV2/Traits/automl eq null)", True),
        ("(RunTypeV2/Traits/other ne null) or (RunTypeV2/Traits/other eq null)", False),
        ("(CreatedUtc ge 2026-03-01 10:00:00+00:00)", True),
        ("(CreatedUtc gt 2026-03-01 10:00:00)", False),
        ("CreatedUtc ge 2026-02-28T23:00:00-11:00", True),
        ("(StartTimeUtc ge 2020-01-01)", False),
        ("RunNumber ge 9", True),
        ("RunNumber lt 9", False),
        ("not (Status eq Failed)", True),
        ("tags/sha EQ 'abc' AND status eq Completed", True),
    ],
)
def test_expressions(text: str, passes: bool) -> None:
    assert filters.parse(text)(RUN) is passes


@pytest.mark.parametrize(
    "text",
    [
        "Status",
        "Status eq",
        "Status is Completed",
        "(Status eq Completed",
        "Status eq Completed)",
        "Status eq Completed and",
        "Nothing eq 1",
        "Tags/ eq 1",
        'Tags/a (b) eq "c"',
        'Tags/a eq "c',
        "(" * 100 + "Status eq a" + ")" * 100,
        "Status eq a " * 5000,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        filters.parse(text)
    assert refused.value.status == 400


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.booleans())
def test_whatever_the_client_writes_of_tags(tags: dict[str, str], same: bool) -> None:
    text = odata.get_filter_run_tags(tags)
    document = {"tags": tags if same else {key: value + "." for key, value in tags.items()}}
    assert filters.parse(text)(document) is same


@given(KEYS, st.dictionaries(KEYS, st.none() | VALUES, max_size=3))
def test_has_a_tag(key: str, tags: dict[str, str | None]) -> None:
    assert filters.parse(odata.get_filter_run_tags(key))({"tags": tags}) is (key in tags)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        answer = filters.parse(text)(RUN)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert isinstance(answer, bool)


@given(st.recursive(st.booleans(), lambda inner: st.tuples(st.sampled_from(["and", "or", "not"]), inner, inner)))
def test_logic(tree: Any) -> None:
    def text(node: Any) -> str:
        if isinstance(node, bool):
            return f"Status eq {'Completed' if node else 'Failed'}"
        word, left, right = node
        return f"not ({text(left)})" if word == "not" else f"({text(left)}) {word} ({text(right)})"

    def value(node: Any) -> bool:
        if isinstance(node, bool):
            return node
        word, left, right = node
        if word == "not":
            return not value(left)
        return value(left) and value(right) if word == "and" else value(left) or value(right)

    assert filters.parse(text(tree))(RUN) is value(tree)


def test_order() -> None:
    made = [{"runId": str(n), "startTimeUtc": time, "runNumber": n} for n, time in enumerate(["b", None, "a", "b"])]
    assert [one["runId"] for one in filters.ordered(made, "StartTimeUtc desc")] == ["0", "3", "2", "1"]
    assert [one["runId"] for one in filters.ordered(made, "StartTimeUtc asc, RunNumber desc")] == [
        "1",
        "2",
        "3",
        "0",
    ]
    assert filters.ordered(made, None) == made
    for wrong in ("StartTimeUtc sideways", "Nothing desc"):
        with pytest.raises(Refused):
            filters.ordered(made, wrong)


@given(st.lists(st.integers(), unique=True, max_size=30), st.integers(1, 10), st.lists(st.integers(), max_size=5))
def test_pages_give_each_once(keys: list[int], size: int, more: list[int]) -> None:
    documents = [{"id": key} for key in keys]
    found, token, first = [], None, True
    while first or token:
        shown, token = filters.page(documents, size, token, "id")
        assert len(shown) <= size
        found += [one["id"] for one in shown]
        if first:
            # New ones come first, as in lists of runs.
            documents = [{"id": f"new-{key}"} for key in more] + documents
            first = False
    assert found == keys


def test_a_token_of_nobody_is_refused() -> None:
    for token in ("x", "bm9uZQ==", "e30="):
        with pytest.raises(Refused):
            filters.page([{"id": 1}], 1, token, "id")
