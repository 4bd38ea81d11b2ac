"""Places outside git where one byte of a released version may change: the site's blob store and its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetrain.core.ports import CheckStatus
from edgetrain.reconcile.verify import verify
from edgetrain.render.verify import Verification
from tests.edge.site import EdgeSite


@dataclass(frozen=True)
class Place:
    """`change` spoils it and answers what puts it back; `checks` of verify then name it, and `drifted` what drift
    tells of."""

    change: Callable[[], Callable[[], object]]
    checks: Set[str]
    drifted: Set[str] = frozenset()

    @contextmanager
    def spoilt(self) -> Iterator[None]:
        """For a while."""
        back = self.change()
        try:
            yield
        finally:
            back()


def flipped(data: bytes) -> bytes:
    """The same bytes but for one bit in the middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def places(site: EdgeSite, registry: str = "site") -> dict[str, Place]:
    """Each place, by a name for people."""
    assert site.testbed is not None
    [release] = [r for r in site.records().values() if r.get("event") == "released"]
    [run] = [r for r in site.records().values() if r["kind"] == "RunRecord"]
    image: Any = release["image"]
    outputs: Any = run["outputs"]
    artifact = outputs["model"]["files"][0]["digest"]
    opened = site.opened().registry(registry)
    found = {
        "a stored output": Place(lambda: _blob(site, artifact, flipped), {"artifact"}),
        "a stored output that is gone": Place(
            lambda: _blob(site, artifact, None), {"artifact"}, {"artifact/mean@1"}
        ),
        "a tag that is gone": Place(lambda: _untag(opened, site.name, "1"), {"image-tag"}, {"tag/mean@1/1"}),
    }
    moved = "a tag that was moved"
    found[moved] = Place(lambda: _retag(opened, site.name, "1"), {"image-tag"}, {"tag/mean@1/1"})
    parts = opened.read(site.name, image["digest"])
    for part in parts:
        kind = f"image-{part.name.split(' ')[0]}"
        file = _registry_file(site, part.digest)
        found[f"the {part.name}"] = Place(lambda file=file: _file(file, flipped), {kind})  # type: ignore[misc]
    last = _registry_file(site, parts[-1].digest)
    found["the last layer, cut short"] = Place(lambda: _file(last, lambda data: data[:-1]), {"image-layer"})
    return found


def wrong(found: Verification) -> set[str]:
    """The names of the checks that do not hold."""
    return {check.name for part in found.parts for check in part.checks if check.status is CheckStatus.FAIL}


def untold(found: Verification) -> set[tuple[str, str]]:
    """What could not be told, and why."""
    every = [check for part in found.parts for check in part.checks if check.status is CheckStatus.WARN]
    return {(check.name, check.reason) for check in every}


def seen(site: EdgeSite) -> Verification:
    """What `edgetrain verify mean@1 --deep` finds."""
    return verify(site.clone, "mean@1", deep=True)


def _blob(site: EdgeSite, digest: str, change: Callable[[bytes], bytes] | None) -> Callable[[], object]:
    assert site.testbed is not None
    with site.testbed.azurite.client() as service:
        container = service.get_container_client(site.name)
        name = f"edgetrain/blobs/sha256/{digest.removeprefix('sha256:')}"
        data = container.download_blob(name).readall()
        if change is None:
            container.delete_blob(name)
        else:
            container.upload_blob(name, change(data), overwrite=True)

    def back() -> None:
        assert site.testbed is not None
        with site.testbed.azurite.client() as again:
            again.get_container_client(site.name).upload_blob(name, data, overwrite=True)

    return back


def _registry_file(site: EdgeSite, digest: str) -> Path:
    assert site.testbed is not None
    plain = digest.removeprefix("sha256:")
    return site.testbed.registry.folder / "data/docker/registry/v2/blobs/sha256" / plain[:2] / plain / "data"


def _file(file: Path, change: Callable[[bytes], bytes]) -> Callable[[], object]:
    data = file.read_bytes()
    file.write_bytes(change(data))
    return lambda: file.write_bytes(data)


def _untag(registry: Any, repository: str, tag: str) -> Callable[[], object]:
    digest = registry.tags(repository)[tag]
    registry.tag(repository, tag, None)
    return lambda: registry.tag(repository, tag, digest)


def _retag(registry: Any, repository: str, tag: str) -> Callable[[], object]:
    digest = registry.tags(repository)[tag]
    other = registry.attach(repository, digest, "application/vnd.example.note", [], {"note": "of somebody"})
    registry.tag(repository, tag, other)
    return lambda: registry.tag(repository, tag, digest)
