"""One value is written where it stands: whatever the manifest's form, nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.edit import put
from edgetrain.repo.reader import read

OLD, NEW = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
POINTER = ("spec", "inputs", "images", "digest")
PATH = "experiments/x/experiment.yaml"
HEAD = "# Ünïcode 𝄞 and a : colon\napiVersion: edgetrain/v1   # kept\nkind: Experiment\n"
FORMS = {
    "quoted": f'spec:\n  inputs:\n    images: {{path: a/, digest: "{OLD}"}}  # why\n    lr: 0.1\n',
    "single quotes": f"spec:\n  inputs:\n    images: {{digest: '{OLD}', path: a/}}\n",
    "plain": f"spec:\n  inputs:\n    images:\n      digest: {OLD}   # as of May\n      path: a/\n",
    "latest": "spec:\n  inputs:\n    images: { path: a/ , digest: latest }\n",
    "the same text elsewhere": f'spec:\n  note: "{OLD}"\n  inputs:\n    images: {{path: a/, digest: "{OLD}"}}\n',
    "another input alike": (
        f'spec: {{inputs: {{a: {{path: a/, digest: "{OLD}"}}, images: {{path: a/, digest: "{OLD}"}}}}}}\n'
    ),
    "without a last line end": f'spec:\n  inputs:\n    images:\n      path: a/\n      digest: "{OLD}"',
    "an alias": f'metadata: {{x: &d "{OLD}"}}\nspec:\n  inputs:\n    images: {{path: a/, digest: *d}}\n',
    "JSON": '{"spec":{"inputs":{"images":{"path":"a/","digest":"' + OLD + '"}}}}\n',
    "after non-ASCII": f'spec:\n  inputs: {{"größe 𝄞": 1, images: {{path: "ü 𝄞", digest: "{OLD}"}}}}\n',
}


def edited(text: str) -> str:
    return put(text.encode(), PATH, POINTER, NEW, "path").decode()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", FORMS)
def test_only_the_value_changes(name: str, mark: str, line_end: str) -> None:
    head = "" if name == "JSON" else HEAD
    before = mark + (head + FORMS[name]).replace("\n", line_end)
    after = edited(before)
    document, problems = read(after.encode(), PATH)
    assert document is not None
    assert not problems
    assert document.data["spec"]["inputs"]["images"]["digest"] == NEW
    # Taken out again, what is left is what was there: byte for byte.
    mine = next(text for text in (f'"{NEW}"', f"'{NEW}'") if text in after)
    start, rest = after.split(mine)
    assert before.startswith(start)
    assert before.endswith(rest)
    there = before[len(start) : len(before) - len(rest)]
    assert there.strip("\"'") in (OLD, "latest", "*d")
    assert edited(after) == after, "once"


def test_a_missing_key_comes_behind_its_neighbour() -> None:
    flow = "spec:\n  inputs:\n    images: {type: uri_folder, path: a/}  # why\n"
    assert edited(flow) == flow.replace("path: a/", f'path: a/, digest: "{NEW}"')
    block = "spec:\n  inputs:\n    images:\n      path: a/  # where\n      type: uri_folder\n    lr: 0.1\n"
    line = f'      digest: "{NEW}"'
    assert edited(block) == block.replace("# where\n", f"# where\n{line}\n")
    last = "spec:\n  inputs:\n    images:\n      path: a/"
    assert edited(last) == f"{last}\n{line}"
    windows = block.replace("\n", "\r\n")
    assert edited(windows) == block.replace("# where\n", f"# where\n{line}\n").replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        f'spec:\n  inputs:\n    images: &a {{path: a/, digest: "{OLD}"}}\n    more: *a\n',
        f'spec:\n  inputs:\n    images: {{path: a/, digest: &d "{OLD}"}}\n    more: {{digest: *d}}\n',
        "spec:\n  inputs:\n    images: &a {path: a/}\n    more: *a\n",
        f"spec:\n  inputs:\n    images:\n      path: a/\n      digest: >-\n        {OLD}\n",
        "spec:\n  inputs:\n    images: {type: uri_folder}\n",
        "spec:\n  inputs:\n    images: {path: |\n",
        f'spec:\n  inputs:\n    images: {{path: a/, digest: "{OLD}", digest: "{OLD}"}}\n',
    ],
)
def test_what_would_change_more_is_left_to_people(text: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        edited(text)
    assert caught.value.reason == "NotEditable"
    assert caught.value.fix


KEYS = st.from_regex(r"[a-zäö𝄞]{1,6}", fullmatch=True)
GAPS = st.sampled_from(["", " ", "   "])


@settings(deadline=None)
@given(st.dictionaries(KEYS, st.integers(0, 99), max_size=4), GAPS, GAPS, st.booleans(), st.sampled_from("'\" "))
def test_any_layout(others: dict[str, int], before: str, behind: str, block: bool, quote: str) -> None:
    quoted = f"{quote}{OLD}{quote}".strip()
    rest = "".join(f"    {key}-: {value}\n" for key, value in others.items())
    if block:
        images = f"    images:\n      path: a/\n      digest:{before or ' '}{quoted}{behind}\n"
    else:
        images = f"    images: {{{before}path: a/{behind},{before}digest: {quoted}{behind} }}{behind}\n"
    text = f"spec:\n  inputs:\n{rest}{images}{rest.replace('-:', '+:')}"
    kept = quote if quote != " " else '"'
    assert edited(text) == text.replace(quoted, f"{kept}{NEW}{kept}")
