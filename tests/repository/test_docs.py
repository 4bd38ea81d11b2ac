"""The pages people read: links lead somewhere, commands and codes exist, and what is said to be tested is."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from edgetrain.cli.app import app
from edgetrain.core import record, record_parts
from edgetrain.core.codes import CODES
from edgetrain.core.ports import Account, CheckResult, PullRequest, Review
from edgetrain.core.review import review_json

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").rglob("*.md"), *ROOT.glob("experiments/*/*.md")]
)
GENERATED = {"benchmarks.md", "commands.md", "manifests.md", "problems.md"}
# Longer than a page is to be: reference for one subject each, with generated tables.
LONG = {"azure.md", "egress.md"}
MOST_LINES = 300

LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
CODE = re.compile(r"\b([YMRHPE]\d{3})\b")
REASONS = re.compile(r"^\| ((?:`[A-Za-z]+`(?:, )?)+)", re.MULTILINE)
TEST_PATH = re.compile(r"`(tests/[\w/.-]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Without what is in fences."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """As the forge makes them: of headings, and those that are written out."""
    found: set[str] = set(re.findall(r'<a id="([^"]+)"', page.read_text(encoding="utf-8")))
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    tracked_or_new = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    folders = {str(parent) for name in tracked_or_new for parent in Path(name).parents}
    wrong = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = str(file.relative_to(ROOT))
        known = inside.rstrip("/") in folders or inside in tracked_or_new
        if not known or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each call of edgetrain that the page tells people to make."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language in ("sh", "shell", "bash", "console", "")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += [found for found in INLINE.findall(FENCE.sub("", text)) if found.startswith("edgetrain ")]
    for line in lines:
        if not re.search(r"(?:^|[\s/(])edgetrain(?:\s|$)", line):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        words: list[str] | None = None
        before = ""
        for word in [*lexer, ";"]:
            if set(word) <= set("();&|"):
                if words is not None:
                    yield words
                words = None
            elif words is not None:
                words.append(word)
            elif word == "edgetrain" and not before.startswith("-"):
                words = []
            before = word


def fault(words: list[str]) -> str:
    """What is wrong with a call; empty if nothing is."""
    command: click.Command = app
    context = click.Context(app, info_name="edgetrain")
    while True:
        parser = command.make_parser(context)
        try:
            given, rest, _ = parser.parse_args(args=list(words))
        except click.UsageError as error:
            return error.format_message()
        for param in command.params:
            value = given.get(param.name or "")
            values = [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
            if isinstance(param.type, click.Choice) and isinstance(value, (str, list, tuple)):
                for one in values:
                    if one.strip("<>[]").isupper() or one.startswith("<"):
                        continue
                    if one not in param.type.choices:
                        return f"{one} is no choice of {param.name}"
        if not isinstance(command, click.Group):
            return f"too many arguments: {rest}" if rest else ""
        if not rest:
            return ""
        inner = command.get_command(context, rest[0])
        if inner is None:
            return f"no verb {rest[0]}" if re.fullmatch(r"[a-z-]+", rest[0]) else ""
        context = click.Context(inner, info_name=rest[0], parent=context)
        command, words = inner, rest[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "commands.md"], ids=name_of)
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = [f"edgetrain {shlex.join(words)}: {what}" for words in commands(page) if (what := fault(words))]
    assert wrong == []


def test_commands_are_found_and_judged() -> None:
    """So that the test above can fail."""
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 80
    assert {words[0] for words in found if words} >= {
        "validate",
        "plan",
        "apply",
        "init",
        "audit",
        "verify",
        "doctor",
    }
    assert "No such option" in fault(["validate", "--no-such"])
    assert fault(["no-such-verb"])
    assert fault(["audit", "a@1", "too-many"])
    assert fault(["plan", "--format", "yaml"])


def called(page: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """What of this repository the page's workflows use: the words, what is given, and the file that takes it."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml" and "uses:" in block:
            for job in yaml.safe_load(block.replace("<commit>", "0" * 40))["jobs"].values():
                for user in [job, *job.get("steps", [])]:
                    uses = str(user.get("uses", ""))
                    if found := re.search(r"/(\.github/(?:workflows/.+\.yml|actions/[\w-]+))@", uses):
                        place = ROOT / found[1]
                        yield uses, user, place / "action.yml" if place.is_dir() else place


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_workflows_to_copy_call_what_is_there(page: Path) -> None:
    for uses, user, file in called(page):
        assert file.is_file(), uses
        whole = yaml.safe_load(file.read_text(encoding="utf-8"))
        taken = whole.get("inputs") or (whole.get(True) or {}).get("workflow_call", {}).get("inputs", {})
        assert set(user.get("with", {})) <= set(taken), uses
        for job in whole.get("jobs", {}).values():
            # A called job may have no right that the caller has not.
            assert job["permissions"].items() <= user["permissions"].items(), uses


def test_workflows_to_copy_are_found() -> None:
    assert len([one for page in PAGES for one in called(page)]) >= 3


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_problem_code_exists(page: Path) -> None:
    told = set(CODE.findall(page.read_text(encoding="utf-8")))
    assert told - set(CODES) == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent in (DOCS, ROOT)], ids=name_of)
def test_what_is_said_to_be_tested_is(page: Path) -> None:
    assert [
        path for path in TEST_PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()
    ] == []


def test_every_reason_that_troubleshooting_explains_is_one() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "tools/edgetrain").rglob("*.py")))
    rows = REASONS.findall((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    reasons = {reason for row in rows for reason in re.findall(r"`([A-Z]\w+)`", row)}
    assert len(reasons) > 30
    assert {reason for reason in reasons if f'"{reason}"' not in code} == set()


def test_every_page_can_be_found_and_read() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name}" in readme, f"README.md does not link docs/{page.name}"
        if page.name not in GENERATED | LONG:
            assert len(page.read_text(encoding="utf-8").splitlines()) < MOST_LINES, page.name


def test_every_key_of_a_record_is_explained() -> None:
    page = (DOCS / "records.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)`", page))
    keys: set[str] = set()
    for kind, form in record.FORMS.items():
        assert f"## {kind}" in page
        keys |= set(form.required)
        keys |= {part for pointer in record_parts._PARTS.get(kind, {}) for part in pointer.split(".")}
    for event, parts in record_parts._EVENTS.items():
        assert f"| `{event}` |" in page
        keys |= {part for pointer in parts for part in pointer.split(".")}
    assert keys - explained == set()


def test_every_key_of_a_review_is_explained() -> None:
    page = (DOCS / "records.md").read_text(encoding="utf-8")
    ada, bob = Account(1, "ada"), Account(2, "bob")
    pull = PullRequest(7, "", "", False, "a" * 40, "x", "o/n", "main", ada, "b" * 40, bob)
    review = Review(bob, "approved", "2026-01-01T00:00:00Z", "a" * 40)
    told = review_json("github.com", "o/n", pull, [review], [CheckResult("check", "success")])
    keys = {*told, *told["proposer"], *told["approvals"][0]}
    below = page[page.index("`provenance.review`:") :]
    assert {key for key in keys if f"`{key}`" not in below} == set()
