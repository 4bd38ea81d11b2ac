"""Our own comments and issues: found by their mark and our account, made, edited and ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.providers.github import reading
from edgetrain.providers.github.marks import mark_of, marked, same

if TYPE_CHECKING:
    from edgetrain.providers.github.provider import GithubForge

OVER = "This is over: nothing of it is left."
RECENT = 10  # pages of issues, the newest first, in which ours are looked for


def comment(forge: GithubForge, number: int, mark: str, texts: Sequence[str]) -> None:
    """Ensure that our comments with the mark are these."""
    forge.client.again(lambda: _comment(forge, number, mark, texts))


def _comment(forge: GithubForge, number: int, mark: str, texts: Sequence[str]) -> None:
    client = forge.client
    listed = client.pages(forge.where("issues", number, "comments"), f"see the comments of {number}")
    ours = sorted(_id_and_text(forge, one, "id") for one in listed if _is_ours(forge, one, mark))
    for (there, text), wanted in zip(ours, texts, strict=False):
        if not same(text, wanted):
            what = f"edit a comment of {number}"
            client.send("PATCH", forge.where("issues", "comments", there), what, {"body": wanted})
    for wanted in texts[len(ours) :]:
        client.send("POST", forge.where("issues", number, "comments"), f"comment on {number}", {"body": wanted})
    for there, _ in ours[len(texts) :]:
        try:
            client.send("DELETE", forge.where("issues", "comments", there), f"remove a comment of {number}")
        except NotFound:
            continue  # it is gone


def issue(forge: GithubForge, mark: str, title: str, text: str, labels: Collection[str]) -> int:
    """Ensure one open issue with the mark and this text; its number."""
    return forge.client.again(lambda: _issue(forge, mark, title, text, labels))


def _issue(forge: GithubForge, mark: str, title: str, text: str, labels: Collection[str]) -> int:
    ours = list(_issues(forge, mark))
    if not ours:
        wanted = {"title": title, "body": text, "labels": sorted(labels)}
        made = forge.client.send("POST", forge.where("issues"), f"open an issue about {mark}", wanted)
        return _number(forge, made)
    kept, *surplus = ours
    number = _number(forge, kept)
    has = reading.read(forge.client.host, reading.labels, kept)
    if kept.get("state") != "open":
        if same(kept.get("body"), text) and _closed_by(forge, number) != forge.us().id:
            return number
        comment(forge, number, f"{mark}-over", [])
    changed = kept.get("title") != title or not same(kept.get("body"), text) or kept.get("state") != "open"
    if changed or set(labels) - has:
        wanted = {"title": title, "body": text, "state": "open", "labels": sorted(has | set(labels))}
        _edit(forge, number, wanted)
    for one in surplus:  # two runners may have opened one each
        if one.get("state") == "open":
            _edit(forge, _number(forge, one), {"state": "closed", "state_reason": "not_planned"})
    return number


def end(forge: GithubForge, mark: str) -> None:
    """Ensure that none of ours with the mark is open, with a word that it is over."""
    for one in _issues(forge, mark):
        if one.get("state") == "open":
            number = _number(forge, one)
            comment(forge, number, f"{mark}-over", marked(f"{mark}-over", [OVER]))
            _edit(forge, number, {"state": "closed", "state_reason": "completed"})


def _issues(forge: GithubForge, mark: str) -> Iterator[Any]:
    """Ours with the mark: the open ones, or else the closed ones, the newest first. Looked for without the forge's
    own filter by author, which is known not to find everywhere what Apps opened."""
    found = False
    for state in ("open", "closed"):
        if found:
            return
        listed = forge.client.pages(
            forge.where("issues"), "see the issues", most=RECENT, state=state, sort="created", direction="desc"
        )
        try:
            for one in listed:
                if "pull_request" not in one and _is_ours(forge, one, mark):
                    found = True
                    yield one
        except Rejected as error:
            if error.reason != "TooMany":  # older ones are history
                raise


def _is_ours(forge: GithubForge, one: Any, mark: str) -> bool:
    user, text = one.get("user"), one.get("body")
    ours = isinstance(user, dict) and user.get("id") == forge.us().id
    return ours and isinstance(text, str) and mark_of(text) == mark


def _id_and_text(forge: GithubForge, one: Any, key: str) -> tuple[int, str]:
    return reading.read(forge.client.host, lambda value: reading.count(value[key]), one), str(one.get("body"))


def _number(forge: GithubForge, one: Any) -> int:
    return _id_and_text(forge, one, "number")[0]


def _closed_by(forge: GithubForge, number: int) -> int | None:
    found = forge.client.get(forge.where("issues", number), f"see issue {number}")
    return reading.read(forge.client.host, lambda one: (one.get("closed_by") or {}).get("id"), found)


def _edit(forge: GithubForge, number: int, what: dict[str, Any]) -> None:
    forge.client.send("PATCH", forge.where("issues", number), f"edit issue {number}", what)
