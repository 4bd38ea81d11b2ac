"""GitHub's own description of its REST API: cuts out the calls that are used, checks requests and answers by it.

`python -m testbed.github.openapi DESCRIPTION EXTRACT` writes the extract. DESCRIPTION is `api.github.com.json` of
the package @octokit/openapi 23.0.2 (MIT), which is https://github.com/github/rest-api-description with an extension
that is left out here, as are all texts and examples.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

REPO = "/repos/{owner}/{repo}"
GROUPS = "/orgs/{org}/actions/runner-groups"
# The calls that the stand-in answers. Whatever is not here does not exist for it.
USED: Mapping[str, tuple[str, ...]] = {
    "/app": ("get",),
    "/app/installations/{installation_id}/access_tokens": ("post",),
    "/installation/repositories": ("get",),
    "/installation/token": ("delete",),
    GROUPS: ("get",),
    f"{GROUPS}/{{runner_group_id}}": ("get",),
    f"{GROUPS}/{{runner_group_id}}/runners": ("get",),
    "/rate_limit": ("get",),
    "/user": ("get",),
    "/users/{username}": ("get",),
    REPO: ("get",),
    f"{REPO}/actions/artifacts/{{artifact_id}}": ("get",),
    f"{REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}": ("get",),
    f"{REPO}/actions/permissions": ("get",),
    f"{REPO}/actions/permissions/workflow": ("get",),
    f"{REPO}/actions/runners": ("get",),
    f"{REPO}/actions/runs": ("get",),
    f"{REPO}/actions/runs/{{run_id}}": ("get",),
    f"{REPO}/actions/runs/{{run_id}}/artifacts": ("get",),
    f"{REPO}/actions/secrets": ("get",),
    f"{REPO}/actions/variables": ("get",),
    f"{REPO}/branches/{{branch}}": ("get",),
    f"{REPO}/commits/{{commit_sha}}/pulls": ("get",),
    f"{REPO}/commits/{{ref}}/check-runs": ("get",),
    f"{REPO}/environments": ("get",),
    f"{REPO}/environments/{{environment_name}}": ("get",),
    f"{REPO}/environments/{{environment_name}}/deployment-branch-policies": ("get",),
    f"{REPO}/environments/{{environment_name}}/secrets": ("get",),
    f"{REPO}/environments/{{environment_name}}/variables": ("get",),
    f"{REPO}/installation": ("get",),
    f"{REPO}/issues": ("get", "post"),
    f"{REPO}/issues/comments/{{comment_id}}": ("get", "patch", "delete"),
    f"{REPO}/issues/{{issue_number}}": ("get", "patch"),
    f"{REPO}/issues/{{issue_number}}/comments": ("get", "post"),
    f"{REPO}/issues/{{issue_number}}/labels": ("get", "post", "put"),
    f"{REPO}/pulls": ("get", "post"),
    f"{REPO}/pulls/{{pull_number}}": ("get", "patch"),
    f"{REPO}/pulls/{{pull_number}}/commits": ("get",),
    f"{REPO}/pulls/{{pull_number}}/files": ("get",),
    f"{REPO}/pulls/{{pull_number}}/merge": ("get", "put"),
    f"{REPO}/pulls/{{pull_number}}/requested_reviewers": ("get", "post", "delete"),
    f"{REPO}/pulls/{{pull_number}}/reviews": ("get", "post"),
    f"{REPO}/pulls/{{pull_number}}/reviews/{{review_id}}/dismissals": ("put",),
    f"{REPO}/rules/branches/{{branch}}": ("get",),
    f"{REPO}/rulesets": ("get",),
    f"{REPO}/rulesets/{{ruleset_id}}": ("get",),
}
TEXT = ("description", "summary", "example", "examples", "externalDocs", "title", "tags", "deprecated")
LOCAL = "#/components/"


def extract(description: Mapping[str, Any]) -> dict[str, Any]:
    """The used calls and all that they refer to, without texts."""
    paths: dict[str, Any] = {}
    for path, methods in USED.items():
        whole = description["paths"][path]
        paths[path] = {method: _operation(whole[method]) for method in methods}
    components: dict[str, dict[str, Any]] = {}
    waiting = list(_references(paths))
    while waiting:
        kind, name = waiting.pop().removeprefix(LOCAL).split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = _bare(description["components"][kind][name])
            waiting.extend(_references(components[kind][name]))
    info = {"title": "GitHub REST API, extract", "version": description["info"]["version"], "license": "MIT"}
    return {"openapi": description["openapi"], "info": info, "paths": paths, "components": components}


def _operation(whole: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = _bare({key: value for key, value in whole.items() if key != "externalDocs"})
    # Every error of GitHub's names it.
    kept["externalDocs"] = {"url": whole["externalDocs"]["url"]}
    return kept


def _bare(value: Any, names: bool = False) -> Any:
    """Without texts and extensions; `names`: the keys are names of properties, not words of the format."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _bare(one, names=key in ("properties", "responses", "content", "headers") and not names)
        for key, one in value.items()
        if names or not (key in TEXT or key.startswith("x-"))
    }


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


EXTRACT = Path(__file__).parents[3] / "tests" / "testbed" / "github-openapi.json"


def committed() -> dict[str, Any]:
    """The extract that lies with the tests."""
    found: dict[str, Any] = json.loads(EXTRACT.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Violation:
    """Something that GitHub's description does not allow: in a `request` or in an `answer`."""

    where: str
    call: str
    status: int
    problem: str


class Description:
    """The extract, ready to check by."""

    def __init__(self, extract: Mapping[str, Any]) -> None:
        self._document = _json_schema(extract)
        parts = set(_parts(self._document))
        for name, schema in self._document["components"]["schemas"].items():
            # GitHub sends a status with every error, and describes it with one of them.
            if "error" not in name and f"github{LOCAL}schemas/{name}" not in parts:
                _close(schema)
        for item in self._document["paths"].values():
            for call in item.values():
                _close([one for status, one in call["responses"].items() if status.startswith("2")])
        resource = Resource.from_contents(self._document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource("github", resource)
        self._routes = [
            (re.compile("".join(_segment(part) for part in re.split(r"(\{\w+\})", path)) + "$"), path)
            for path in self._document["paths"]
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    @property
    def calls(self) -> set[tuple[str, str]]:
        """Method and path of each call."""
        return {(method.upper(), path) for path, item in self._document["paths"].items() for method in item}

    def find(self, method: str, path: str) -> tuple[str, Mapping[str, Any]] | None:
        """The path as the description writes it and the call; None if it has no such call."""
        found = [
            (template, self._document["paths"][template][method.lower()])
            for pattern, template in self._routes
            if pattern.match(path) and method.lower() in self._document["paths"][template]
        ]
        # `/actions/runs/{run_id}` and the like: what has the fewest placeholders is meant.
        return min(found, key=lambda one: one[0].count("{"), default=None)

    def request(self, method: str, path: str, query: str, body: bytes) -> list[str]:
        """What is wrong with a request; empty if nothing is, or the call is not described."""
        found = self.find(method, path)
        if found is None:
            return []
        template, call = found
        return [*self._query(call, query), *self._body(template, method, call, body)]

    def _query(self, call: Mapping[str, Any], query: str) -> Iterator[str]:
        known = {
            one["name"]: one["schema"]
            for one in (self._resolved(each) for each in call.get("parameters", ()))
            if one["in"] == "query"
        }
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                yield f"unknown query parameter {name!r}"
                continue
            schema = known[name]
            integer = schema.get("type") == "integer" and re.fullmatch(r"\d{1,18}", value)
            yield from (f"{name}: {one.message}" for one in self._errors(schema, int(value) if integer else value))

    def _body(self, template: str, method: str, call: Mapping[str, Any], body: bytes) -> Iterator[str]:
        described = call.get("requestBody")
        if described is None:
            if body:
                yield "a body where there is none"
            return
        if not body:
            if described.get("required"):
                yield "no body"
            return
        try:
            value = json.loads(body)
        except ValueError:
            yield "Problems parsing JSON"
            return
        pointer = f"/paths/{_escaped(template)}/{method.lower()}/requestBody/content/application~1json/schema"
        schema = described["content"]["application/json"]["schema"]
        yield from _messages(self._by_pointer(pointer).iter_errors(value))
        properties = schema.get("properties")
        if properties is not None and isinstance(value, dict):
            yield from (f"unknown key {key!r}" for key in value if key not in properties)

    def answer(self, method: str, path: str, status: int, body: bytes) -> list[str]:
        """What is wrong with an answer. A status that the call does not describe is held to be an error's."""
        found = self.find(method, path)
        if found is None:
            return [] if status >= 400 else ["no such call"]
        template, call = found
        described = call["responses"].get(str(status))
        if described is None and status < 400 and status != 304:
            return [f"status {status} is not described"]
        if status in (204, 302, 304):
            return ["a body where there is none"] if body else []
        try:
            value = json.loads(body)
        except ValueError:
            return ["the body is no JSON"]
        pointer = f"/paths/{_escaped(template)}/{method.lower()}/responses/{status}"
        if described is not None and "$ref" in described:
            pointer, described = described["$ref"].removeprefix("github#"), self._resolved(described)
        if described is None or "application/json" not in described.get("content", {}):
            pointer = "/components/schemas/basic-error"
        else:
            pointer += "/content/application~1json/schema"
        return list(_messages(self._by_pointer(pointer).iter_errors(value)))

    def _resolved(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in value:
            return value
        found: Mapping[str, Any] = self._registry.resolver().lookup(value["$ref"]).contents
        return found

    def _by_pointer(self, pointer: str) -> Draft202012Validator:
        if pointer not in self._validators:
            self._validators[pointer] = self._validator({"$ref": f"github#{pointer}"})
        return self._validators[pointer]

    def _validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        return Draft202012Validator(schema, registry=self._registry, format_checker=_formats())

    def _errors(self, schema: Mapping[str, Any], value: Any) -> Iterator[Any]:
        return self._validator(schema).iter_errors(value)


def _messages(errors: Iterator[Any]) -> Iterator[str]:
    for error in errors:
        # Of a fork that was deleted GitHub tells null, though its description does not say so.
        if not (error.instance is None and list(error.path)[-2:] == ["head", "repo"]):
            yield f"{error.json_path}: {error.message[:300]}"


def _segment(part: str) -> str:
    # A branch or a ref may hold slashes.
    if part in ("{branch}", "{ref}"):
        return ".+"
    return "[^/]+" if part.startswith("{") else re.escape(part)


def _escaped(path: str) -> str:
    return path.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def _json_schema(value: Any) -> Any:
    """OpenAPI 3.0's own words made JSON Schema's: `nullable`, and references into the document."""
    if isinstance(value, list):
        return [_json_schema(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: _json_schema(one) for key, one in value.items() if key != "nullable"}
    if isinstance(made.get("$ref"), str) and made["$ref"].startswith(LOCAL):
        made["$ref"] = "github" + made["$ref"]
    if value.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


def _parts(value: Any) -> Iterator[str]:
    """What is referred to as a part of an `allOf`."""
    if isinstance(value, list):
        for one in value:
            yield from _parts(one)
    elif isinstance(value, dict):
        if isinstance(value.get("allOf"), list):
            yield from (one["$ref"] for one in value["allOf"] if "$ref" in one)
        for one in value.values():
            yield from _parts(one)


def _close(schema: Any) -> None:
    """Let objects have no properties that are not described: a client must not come to lean on one. Parts of
    `allOf` stay open, for each of them describes a part only."""
    if isinstance(schema, list):
        for one in schema:
            _close(one)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "allOf" not in schema:
            schema.setdefault("additionalProperties", False)
        for key, one in schema.items():
            if key != "allOf":
                _close(one)


@cache
def _formats() -> FormatChecker:
    checker = FormatChecker(())
    checker.checks("date-time")(
        lambda value: (
            not isinstance(value, str)
            or bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value))
        )
    )
    checker.checks("uri")(lambda value: not isinstance(value, str) or bool(re.match(r"[a-z][a-z0-9+.-]*:", value)))
    return checker


def main(description: str, target: str) -> None:
    """Write the extract."""
    made = extract(json.loads(Path(description).read_text(encoding="utf-8")))
    Path(target).write_text(json.dumps(made, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
