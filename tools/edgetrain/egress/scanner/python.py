"""Looks through Python text by its syntax tree. Nothing is imported or run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from .finding import MAX_BYTES, Finding, bounded, unreadable
from .tables import INSIDES, WATCHED, rule_of

SAID = {
    "E611": "uses the network module",
    "E612": "uses the cloud client",
    "E613": "starts programs with",
    "E614": "runs code with",
    "E615": "calls native code with",
    "E617": "fetches with",
}
_REMOTE = re.compile(
    r"(https?|ftps?|sftp|s3a?|gs|gcs|abfss?|wasbs?|adl|hdfs|dbfs|databricks|wss?|ssh|git\+\w+)://", re.I
)
_TALKS = re.compile(
    r"(read|open|load|get|fetch|download|save|to|upload|put|post|send|copy|connect|set|request|url\w*|from|hf)(_|\d|$)"
)
_CREDENTIALS = re.compile(
    r"(^|[/~])\.(ssh|aws|azure|kube|gnupg|docker|config/gcloud)(/|$)|\bid_(rsa|dsa|ecdsa|ed25519)\b|/etc/g?shadow\b"
    r"|docker\.sock|169\.254\.169\.254|metadata\.google\.internal|/proc/[^/]+/(environ|mem)\b|\.netrc\b"
    r"|\.git-credentials|/run/secrets\b|\bAccountKey=|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|^(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)|AZURE_(CLIENT_SECRET|STORAGE_\w+)|GITHUB_TOKEN|GH_TOKEN"
    r"|HF_TOKEN|WANDB_API_KEY|ACTIONS_\w*TOKEN|GOOGLE_APPLICATION_CREDENTIALS)$"
)
_BUILTIN = {"eval": "E614", "exec": "E614", "compile": "E614", "execfile": "E614", "get_ipython": "E613"}
_IMPORTERS = frozenset({"__import__", "builtins.__import__", "importlib.import_module", "importlib.__import__"})
_DEEPEST = 100


def scan(data: bytes) -> list[Finding]:
    """The findings of one script."""
    if len(data) > MAX_BYTES:
        return unreadable(f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
        return bounded(list(_Script(tree).findings()))
    except SyntaxError as error:
        return unreadable(f"Python can't parse it: {str(error.msg)[:80]}", error.lineno or 1)
    except (ValueError, RecursionError, MemoryError, LookupError) as error:
        return unreadable(f"Python can't parse it: {type(error).__name__}")


class _Script:
    """One syntax tree, with what its names stand for (one table for the whole file)."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(ast.walk(tree))
        self.names: dict[str, str] = {}
        self.defined = {n.name for n in self.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        self.prose = {
            id(n.value) for n in self.nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
        }
        self.imported: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        # `run = os.system`, and a name of that name: two rounds see both.
        for _ in range(2):
            for node in self.nodes:
                if (
                    isinstance(node, ast.Assign)
                    and len(node.targets) == 1
                    and isinstance(node.targets[0], ast.Name)
                ):
                    dotted = self.dotted(node.value)
                    if dotted and (rule_of(dotted) or dotted in WATCHED):
                        self.names.setdefault(node.targets[0].id, dotted)

    def findings(self) -> Iterator[Finding]:
        """All findings, in no order."""
        for node in self.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._import(node)
        called = {id(node.func) for node in self.nodes if isinstance(node, ast.Call)}
        for node in self.nodes:
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
                yield from self._reference(node, id(node) in called)
            elif isinstance(node, ast.Subscript):
                yield from self._subscript(node)
            elif isinstance(node, ast.Assign):
                yield from self._assign(node)
            elif isinstance(node, ast.Constant) and id(node) not in self.prose:
                text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                if isinstance(text, str) and len(text) < 10_000 and _CREDENTIALS.search(text):
                    yield _at(node, "E616", "names a place or a variable of credentials")

    def dotted(self, node: ast.expr) -> str:
        """`os.path.join` for such a chain, through the file's imports; empty if it is none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) < _DEEPEST:
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            base = self.names.get(node.id, node.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            base = self._imports(node) or self._getattr(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            base = _text(node.slice) if self._is_modules(node.value) else ""
        else:
            base = ""
        return ".".join([base, *reversed(parts)]) if base else ""

    def _plain(self, node: ast.expr) -> str:
        """As `dotted`, of names and attributes only."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) < _DEEPEST:
            parts.append(node.attr)
            node = node.value
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)]) if isinstance(node, ast.Name) else ""

    def _imports(self, node: ast.Call) -> str:
        """The module of `importlib.import_module("os")`."""
        return _text(node.args[0]) if node.args and self._plain(node.func) in _IMPORTERS else ""

    def _getattr(self, node: ast.Call) -> str:
        if len(node.args) < 2 or self._plain(node.func) not in ("getattr", "builtins.getattr"):
            return ""
        base, name = self._plain(node.args[0]), _text(node.args[1])
        return f"{base}.{name}" if base and name else ""

    def _is_modules(self, node: ast.expr) -> bool:
        return self._plain(node) == "sys.modules"

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Finding]:
        if isinstance(node, ast.ImportFrom):
            names = [] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names]
        for name in names:
            if name.endswith(".*") and name[:-2] in WATCHED:
                yield _at(node, "E614", f"takes names from {name[:-2]} that are not to be seen")
            rule = rule_of(name)
            if rule:
                self.imported.add(rule[1])
                yield _at(node, rule[0], f"{SAID[rule[0]]} {rule[1][:60]}")

    def _reference(self, node: ast.Attribute | ast.Name, called: bool) -> Iterator[Finding]:
        if isinstance(node, ast.Name):
            if node.id in _BUILTIN and node.id not in self.defined and node.id not in self.names:
                code = _BUILTIN[node.id]
                yield _at(node, code, f"{SAID[code]} {node.id}")
            if node.id in INSIDES:
                yield _at(node, "E614", f"reaches behind Python by {node.id}")
            dotted = node.id if node.id == "__import__" else self.names.get(node.id, "")
        else:
            if node.attr in INSIDES:
                yield _at(node, "E614", f"reaches behind Python by {node.attr}")
            if node.attr == "push_to_hub":
                yield _at(node, "E612", "uploads with push_to_hub")
            dotted = self.dotted(node)
            owner = dotted.rpartition(".")[0]
            if node.attr == "__dict__" and owner in WATCHED:
                yield _at(node, "E614", f"takes names from {owner} that are not to be seen")
        if dotted in _IMPORTERS:
            if not called:
                yield _at(node, "E614", f"passes {dotted[:60]} on")
            return
        if dotted.startswith("__builtins__."):
            dotted = "builtins." + dotted.partition(".")[2]
        rule = rule_of(dotted)
        # A module is told once, where it is imported; a name only of the chain that ends with it.
        if rule and rule[1] not in self.imported and dotted == rule[1]:
            yield _at(node, rule[0], f"{SAID[rule[0]]} {dotted[:60]}")

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        name = self._plain(node.func)
        if name in _IMPORTERS:
            module = _text(node.args[0]) if node.args else ""
            rule = rule_of(module)
            if not module:
                yield _at(node, "E614", "imports a module whose name is not in the text")
            elif rule:
                yield _at(node, rule[0], f"{SAID[rule[0]]} {rule[1][:60]}")
        elif name in ("getattr", "builtins.getattr", "vars", "builtins.vars") and node.args:
            base = self._plain(node.args[0])
            found = self._getattr(node)
            rule = rule_of(found) if found else None
            if base in WATCHED and not found and (name.endswith("vars") or len(node.args) > 1):
                yield _at(node, "E614", f"takes names from {base} that are not to be seen")
            elif rule and rule[1] not in self.imported:
                yield _at(node, rule[0], f"{SAID[rule[0]]} {found[:60]}")
        last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
        for keyword in node.keywords:
            if (
                keyword.arg == "download"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
            ):
                yield _at(node, "E617", "fetches with download=True")
        if last and _TALKS.match(last.lower()):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if _REMOTE.match(_begin(argument)):
                    yield _at(argument, "E617", f"gives a remote address to {last[:60]}")

    def _subscript(self, node: ast.Subscript) -> Iterator[Finding]:
        if self._is_modules(node.value):
            own = isinstance(node.slice, ast.Name) and node.slice.id == "__name__"
            rule = rule_of(_text(node.slice))
            if rule:
                yield _at(node, rule[0], f"{SAID[rule[0]]} {rule[1][:60]}")
            elif not own and not _text(node.slice):
                yield _at(node, "E614", "takes a module whose name is not in the text")

    def _assign(self, node: ast.Assign) -> Iterator[Finding]:
        target = node.targets[0]
        into_environment = isinstance(target, ast.Subscript) and self._plain(target.value) == "os.environ"
        if into_environment and _REMOTE.match(_begin(node.value)):
            yield _at(node, "E617", "puts a remote address into the environment")


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _begin(node: ast.expr) -> str:
    """The text that a literal, an f-string or a sum of texts begins with."""
    for _ in range(_DEEPEST):
        if isinstance(node, ast.JoinedStr) and node.values:
            node = node.values[0]
        elif isinstance(node, ast.BinOp):
            node = node.left
        else:
            break
    return _text(node)


def _at(node: ast.expr | ast.stmt, code: str, what: str) -> Finding:
    return Finding(node.lineno, node.col_offset + 1, code, what)
