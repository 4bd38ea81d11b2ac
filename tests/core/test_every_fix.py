"""Each failure tells its reader what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from edgetrain.core import errors
from edgetrain.core.codes import CODES

PACKAGE = Path(str(resources.files("edgetrain")))
# They take what to do from elsewhere: from problems with their codes, or there is nothing to do.
OTHERS = {"InvalidFiles", "Stopped"}
NAMES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
} - OTHERS


def made_without_a_fix(path: Path) -> Iterator[str]:
    """Where the file makes an error of ours, by its name, and gives it no `fix`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES and node.args:
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            fix = given.get("fix")
            if None not in given and (fix is None or (isinstance(fix, ast.Constant) and not fix.value)):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node.args[0])[:100]}"


def test_every_error_says_what_to_do_next() -> None:
    assert [where for path in sorted(PACKAGE.rglob("*.py")) for where in made_without_a_fix(path)] == []


def test_every_code_says_why_and_what_to_do() -> None:
    for code in CODES.values():
        for words in (code.why, code.fix):
            assert words[0].isupper() or words[0] in "`$"
            assert words.endswith((".", ")")), f"{code.id}: {words}"
