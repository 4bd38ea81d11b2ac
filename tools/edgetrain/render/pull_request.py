"""The comment on a pull request, from its report, which is taken for hostile: nothing in it can break out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgetrain.core.digest import short
from edgetrain.core.plan import Effect
from edgetrain.render.attention_words import attention_line
from edgetrain.render.comment_parts import Block, bold, fold, folded, listed, packed, row, table, table_head
from edgetrain.render.markdown import MARKS, code, prose
from edgetrain.render.pull_request_runs import advisory, differs, duration, leaving, levels, reading
from edgetrain.render.words import plural, why

Report = Mapping[str, Any]

MOST_LISTED = 10
FEW = 3

_MORE = "**There is more, left out here for its length.**"


def comment_parts(report: Report, *, own_workflows: bool = False, untold: bool = False) -> list[str]:
    """The comment, in as many parts as it needs. `report` has passed its schema; `own_workflows` says that the
    pull request changes the workflows which made it, `untold` that it may: not all that it changes can be told."""
    blocks = [
        *_doubtful(own_workflows, untold),
        *_attention(report),
        *_conflict(report),
        *_problems(report),
        *_changes(report),
        *reading(report),
        *leaving(report),
        *levels(report),
        *_waivers(report),
        *differs(report),
        *duration(report),
        *_needs(report),
        *_notes(report),
    ]
    local = f"`edgetrain -C ../pull-{report['number']} plan`"
    rest = f"{_MORE} {local} shows it, as below."
    heading = _sum(report)
    if own_workflows or untold:
        heading = f"this {'changes' if own_workflows else 'may change'} the workflows that check it"
    return packed(f"### edgetrain: {heading}", blocks, _footer(report), rest)


def unbelieved_parts(
    number: int, head: str, why: str, told: Sequence[Report], *, own_workflows: bool, untold: bool
) -> list[str]:
    """The comment where no report can be believed: what the forge tells of the files, and no more."""
    blocks = [
        Block(
            "> [!CAUTION]\n"
            "> **What the merge would do can't be told here**, and what stood here before does not count: "
            f"{prose(why)}.\n> Read the files that it changes, and make the report yourself, as below."
        ),
        *_warning([*_changing(own_workflows, untold), *(attention_line(one) for one in told)]),
    ]
    footer = f"<sub>For {code(head[:12])}. {_yourself(number, 'head')}</sub>"
    return packed("### edgetrain: there is no report that can be believed", blocks, footer, _MORE)


def _changing(own_workflows: bool, untold: bool) -> Iterator[str]:
    if own_workflows or untold:
        which = "changes" if own_workflows else "changes more files than the forge tells, and so perhaps"
        yield f"{bold('No check of it counts')}: it {which} the workflows that check it"


def _sum(report: Report) -> str:
    """The heading's words."""
    stopping = _stopping(report)
    if report["merge"] == "conflict":
        return "this pull request conflicts with its base branch"
    if stopping:
        return f"{plural(stopping, 'problem')} to mend before this can be merged"
    plan = report["plan"]
    if plan is None:
        return "no plan could be made"
    return prose(plan["summary"])


def _stopping(report: Report) -> int:
    shown = [found["severity"] for found in report["problems"]].count("problem")
    # Those that stop come first: what was left out is of that sort only if all that is told is.
    more = report["leftOut"].get("problems", 0) if shown == len(report["problems"]) else 0
    return shown + int(more)


def _doubtful(own_workflows: bool, untold: bool) -> Iterator[Block]:
    if own_workflows or untold:
        which = "changes" if own_workflows else "changes more files than the forge tells, and so perhaps"
        yield Block(
            "> [!CAUTION]\n"
            f"> **Do not rely on what follows.** This pull request {which} the workflows that made this report, so "
            "it may say anything.\n> Read the files that it changes, and make the report yourself, as below."
        )


def _attention(report: Report) -> Iterator[Block]:
    lines = [attention_line(one) for one in report["attention"]]
    new = [one for one in report["waivers"] if one["new"]]
    names = listed(sorted({one["experiment"] for one in new}))
    lines += (
        [f"{bold(plural(len(new), 'new waiver'))} ({names}): more may leave the site; see below"] if new else []
    )
    weak = advisory(report)
    lines += [f"{bold('Egress level advisory')} ({listed(weak)}): runs there may reach a network"] if weak else []
    yield from _warning(lines)


def _warning(lines: Sequence[str]) -> Iterator[Block]:
    if lines:
        yield Block(
            "> [!WARNING]\n> **Look closely before you approve:** this touches what guards the site.\n>",
            tuple(f"> - {line}" for line in lines),
        )


def _conflict(report: Report) -> Iterator[Block]:
    if report["merge"] != "conflict":
        return
    paths = report["conflicts"]
    which = f"in {listed(paths)}" if paths else "in files that can't be told here"
    yield Block(
        f"> [!IMPORTANT]\n> It conflicts with its base branch {which}, so there is no merge commit.\n"
        "> What follows is read from the head alone."
    )


def _problems(report: Report) -> Iterator[Block]:
    rows = [_problem(found) for found in report["problems"]]
    rows += _left_out(report, "problems", 4)
    yield from table("#### Problems", ("where", "code", "what", "fix"), rows, "more problems")


def _problem(found: Mapping[str, Any]) -> str:
    kind = " (warning)" if found["severity"] == "warning" else ""
    place = code(f"{found['path']}:{found['line']}")
    untouched = "" if found["touched"] or found["path"] == "." else "<br>not of this pull request"
    return row(place + untouched, f"{prose(found['code'])}{kind}", prose(found["what"]), prose(found["fix"]))


def _changes(report: Report) -> Iterator[Block]:
    plan = report["plan"]
    if plan is None:
        if report["problems"]:
            yield Block("What the merge would do can be told once the problems are mended.", title=_DOES)
        return
    mine = [one for one in report["changes"] if not one["due"]]
    due = [one for one in report["changes"] if one["due"]]
    rows = list(_rows([one for one in mine if not one["condition"]]))
    rows += _left_out(report, "changes", 4) if not due else []
    if not rows:
        yield Block("Nothing beyond what the base branch asks for already.", title=_DOES)
    yield from table(_DOES, _CHANGE, rows, "more changes")
    then = [f"- {prose(one['condition'])}" for one in mine if one["condition"]]
    yield from folded("**And then**", then, "more that may follow") if then else ()
    waits = [f"- {code(one['object'])} {prose(why(one['reason']))}" for one in report["waiting"]]
    yield from folded("**Waiting** (no change)", waits, "more that waits") if waits else ()
    if due:
        rows = [_change(one) for one in due] + _left_out(report, "changes", 4)
        yield fold(f"Due without this merge too: {prose(plan['due'])}", rows, table_head(_CHANGE))


_DOES = "#### What the merge will do"
_STEPS = ("register", "push", "tag", "release")
_CREATE = MARKS[Effect.CREATE]
_CHANGE = ("", "change", "why", "what differs")


def _rows(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row each; the steps of one release are one row, and so are many trials that start for one reason."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in changes:
        groups.setdefault(_group(one), []).append(one)
    for group in groups.values():
        if group[-1]["operation"] == "release" and len(group) > 1:
            version = group[-1]["id"].partition("/")[2]
            tag = code(version.rpartition("@")[2])
            words = {
                "register": "register it in the workspace",
                "push": "push its image",
                "tag": f"tag that {tag} and with the merge commit",
            }
            steps = ", ".join(words.get(one["operation"], "") for one in group[:-1])
            yield row(
                _CREATE, f"release {code(version)}", prose(why(group[-1]["reason"])), f"{steps}, then record it"
            )
        elif group[0]["trial"] and len(group) > FEW:
            told = [code(one["trial"]) for one in group[:MOST_LISTED]]
            told += [f"and {len(group) - MOST_LISTED} more"] if len(group) > MOST_LISTED else []
            sweep = f"train {len(group)} trials of {code(group[0]['id'].rpartition('/')[0])}"
            yield row(_CREATE, sweep, prose(why(group[0]["reason"])), ", ".join(told))
        else:
            yield from map(_change, group)


def _group(one: Mapping[str, Any]) -> tuple[str, str]:
    if one["trial"]:
        return one["id"].rpartition("/")[0], one["reason"]
    if one["operation"] in _STEPS and one["effect"] == "create" and not one["differences"]:
        return f"release {one['id'].partition('/')[2]}", one["reason"]
    return one["id"], one["operation"]


def _change(one: Mapping[str, Any]) -> str:
    fields = [
        f"{code(found['path'])}: {code(found['actual'])} → {code(found['desired'])}"
        for found in one["differences"][:MOST_LISTED]
    ]
    if len(one["differences"]) > MOST_LISTED:
        fields.append(f"and {len(one['differences']) - MOST_LISTED} more")
    if one["trial"]:
        fields.insert(0, f"trial {code(one['trial'])}")
    if one["sends"]:
        fields.append(bold(prose(one["sends"])))
    if one["condition"]:
        fields.append(prose(one["condition"]))
    mark = MARKS[Effect(one["effect"])]
    return row(mark, f"{one['operation']} {code(one['id'])}", prose(why(one["reason"])), "<br>".join(fields))


def _waivers(report: Report) -> Iterator[Block]:
    rows = [
        row(
            "**new**" if one["new"] else "",
            code(one["experiment"]),
            bold(code(one["code"])) + (f" in {code(one['path'])}" if one["path"] else ""),
            bold(prose(one["reason"])) if one["new"] else prose(one["reason"]),
            prose(one["owner"]),
            prose(one["expires"]),
        )
        for one in sorted(report["waivers"], key=lambda one: not one["new"])
    ]
    rows += _left_out(report, "waivers", 6)
    head = ("", "experiment", "rule", "reason", "who answers", "until")
    new = sum(one["new"] for one in report["waivers"])
    title = "#### Waivers of what may leave" + (f": {new} new, for a reviewer's eye" if new else "")
    yield from table(title, head, rows, "more waivers")


def _needs(report: Report) -> Iterator[Block]:
    """What stands between this and the merge, as far as the files tell."""
    lines = [
        f"- code owners of {_files(one)}: {_people(one['owners'])}" for one in report["codeowners"] if one["owners"]
    ]
    free = [one for one in report["codeowners"] if not one["owners"]]
    lines += [f"- no code owner has {_files(one)}" for one in free]
    if not report["codeowners"]:
        lines.append("- no CODEOWNERS on the base branch: any reviewer's approval")
    lines += [f"- owners that {code(one['path'])} names: {_people(one['owners'])}" for one in report["owners"]]
    more = report["leftOut"].get("owners", 0)
    lines += [f"- owners of {plural(more, 'more manifest')}"] if more else []
    if report["environment"]:
        environment = code(report["environment"])
        lines.append(f"- after the merge, for releases and channels: a reviewer of the environment {environment}")
    lines.append(f"- an approval counts if it is of {code(report['head'][:12])}, and not the proposer's own")
    yield from folded("#### What the merge needs", lines, "more")


def _notes(report: Report) -> Iterator[Block]:
    notes = [f"- {prose(note)}" for note in report["notes"]]
    if report["merge"] == "unmerged":
        notes.insert(0, "- there is no merge commit: what is told is of the pull request's head")
    if notes:
        yield Block("", tuple(notes), title="#### What can't be told")


def _footer(report: Report) -> str:
    of = f"For {code(report['head'][:12])} on {code(report['base'][:12])}"
    if report["merge"] == "merged":
        of += f", merged as {code(report['commit'][:12])}"
    plan = f"; plan {code('sha256:' + short(report['plan']['digest']))}" if report["plan"] else ""
    which = "merge" if report["merge"] == "merged" else "head"
    return f"<sub>{of}{plan}; edgetrain {code(report['edgetrain'])}. {_yourself(report['number'], which)}</sub>"


def _yourself(number: int, which: str) -> str:
    """The commands by which a reader makes the report."""
    return (
        f"The same on your machine: <code>git fetch origin pull/{number}/{which}</code>, "
        f"<code>git worktree add --detach ../pull-{number} FETCH_HEAD</code>, "
        f"<code>edgetrain -C ../pull-{number} plan</code>"
    )


def _left_out(report: Report, name: str, columns: int) -> list[str]:
    count = report["leftOut"].get(name, 0)
    return [row(f"and {count} more", *[""] * (columns - 1))] if count else []


def _files(one: Mapping[str, Any]) -> str:
    return listed(one["paths"], one["count"])


def _people(names: Iterable[str]) -> str:
    return ", ".join(prose(name) for name in names)
