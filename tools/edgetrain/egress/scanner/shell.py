"""Looks through shell text: scripts, the manifest's command, and shell lines of notebooks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from . import python
from .finding import MAX_BYTES, Finding, bounded, unreadable
from .tables import INSTALLERS, INSTALLING, PROGRAMS, words

SAID = {"E613": "runs", "E618": "runs the network program"}
_DEVICE = re.compile(r"/dev/(tcp|udp)/")
_INNER = re.compile(r"(?:\$\(|`|<\(|>\()\s*([A-Za-z0-9_./+-]+)")
_TEMPLATE = re.compile(r"\$\{\{[^}]*\}\}")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_SHELLS = words("sh bash zsh dash ksh ash")
_BEFORE = words(
    "if then else elif do while until ! time exec sudo env command builtin nohup nice stdbuf setsid timeout xargs "
    "doas ionice chrt busybox parallel"
)
_GIT_REMOTE = words("push clone fetch pull remote ls-remote send-email submodule lfs")
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_DEPTH = 3


def scan(data: bytes) -> list[Finding]:
    """The findings of one script."""
    if len(data) > MAX_BYTES:
        return unreadable(f"it is larger than {MAX_BYTES // 2**20} MiB")
    return bounded(list(lines(data.decode("utf-8", "replace"))))


def lines(text: str, depth: int = 0) -> Iterator[Finding]:
    """The findings of shell text, with continued lines joined."""
    start, held = 1, ""
    for number, line in enumerate(_TEMPLATE.sub("VALUE", text).split("\n"), 1):
        if not held:
            start = number
        held += line
        if held.endswith("\\") and len(held) < MAX_BYTES:
            held = held[:-1] + " "
            continue
        yield from _line(held, start, depth)
        held = ""
    yield from _line(held, start, depth)


def _line(line: str, number: int, depth: int) -> Iterator[Finding]:
    if line.lstrip().startswith("#") or not line.strip():
        return
    if _DEVICE.search(line):
        yield Finding(number, 1, "E618", "opens a connection through /dev/tcp")
    split = _words(line)
    for name in {found[1].rpartition("/")[2] for found in _INNER.finditer(line)}:
        if name in PROGRAMS:
            yield Finding(number, line.find(name) + 1, PROGRAMS[name], f"{SAID.get(PROGRAMS[name], 'runs')} {name}")
    for at, command, rest, piped in _commands(split):
        column = max(line.find(split[at]), 0) + 1
        for code, what in _command(command, rest, piped):
            yield Finding(number, column, code, what)
        if depth < _DEPTH:
            yield from _nested(command, rest, number, depth)


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        return list(lexer)
    except ValueError:  # quotes that end on another line
        return re.findall(r"[;&|(){}]+|[^\s;&|(){}'\"]+", line)


def _commands(split: list[str]) -> Iterator[tuple[int, str, list[str], bool]]:
    """Each word in a command's place, its arguments, and whether something is piped into it."""
    expecting, piped, wrapped, redirected = True, False, False, False
    for at, word in enumerate(split):
        if redirected:
            redirected = False
        elif word and set(word) <= set("<>&") and set(word) & set("<>"):
            redirected = not word.startswith("<<")
        elif word and set(word) <= set(";&|(){}"):
            expecting, piped, wrapped = True, "|" in word and "||" not in word, False
        elif not expecting or _ASSIGNMENT.match(word):
            continue
        elif word in _BEFORE:
            wrapped = True
        elif wrapped and (word.startswith("-") or word[:1].isdigit() or word == "VALUE"):
            continue
        else:
            end = next((i for i in range(at, len(split)) if split[i] and set(split[i]) <= set(";&|()")), len(split))
            yield at, word.rpartition("/")[2], split[at + 1 : end], piped
            expecting = False


def _command(name: str, rest: list[str], piped: bool) -> Iterator[tuple[str, str]]:
    plain = [word for word in rest if not word.startswith("-")]
    if name in PROGRAMS:
        yield PROGRAMS[name], f"{SAID.get(PROGRAMS[name], 'installs with')} {name}"
    elif name in INSTALLERS and set(plain[:2]) & INSTALLING:
        yield "E619", f"installs packages with {name}"
    elif name == "git" and set(plain[:3]) & _GIT_REMOTE:
        yield "E618", "git talks to another repository"
    elif name == "openssl" and "s_client" in plain:
        yield "E618", "runs the network program openssl s_client"
    elif name == "eval":
        yield "E614", "runs text as code with eval"
    elif name in _SHELLS and piped and not plain:
        yield "E614", "runs what is piped into the shell"
    elif _PYTHON.fullmatch(name):
        if "-m" in rest:
            module = rest[rest.index("-m") + 1 :]
            if module[:1] and module[0] in INSTALLERS and set(module[1:3]) & INSTALLING:
                yield "E619", f"installs packages with {module[0]}"
            elif module[:1] and module[0] in ("http.server", "smtpd", "ftplib", "telnetlib"):
                yield "E618", f"runs the network program {module[0]}"
        elif (
            "-" in rest or any(word.startswith("<<") for word in rest) or (piped and not plain and "-c" not in rest)
        ):
            yield "E614", "runs Python text from its standard input"


def _nested(name: str, rest: list[str], number: int, depth: int) -> Iterator[Finding]:
    """Code in an argument: `sh -c '...'`, `python -c '...'`."""
    shell = name in _SHELLS
    if not shell and not _PYTHON.fullmatch(name):
        return
    # Options may be joined: `bash -ec`, `python -Bc`.
    at = next((i for i, word in enumerate(rest) if re.fullmatch(r"-[A-Za-z]*c", word)), None)
    if at is None or at + 1 >= len(rest):
        return
    found = lines(rest[at + 1], depth + 1) if shell else python.scan(rest[at + 1].encode("utf-8", "replace"))
    for each in found:
        yield Finding(number, 1, each.code, each.what)
