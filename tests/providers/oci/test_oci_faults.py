"""What a registry and a network do wrong, by a front before the real registry: pushes converge, or say why."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import Image
from edgetrain.providers.oci.provider import OciRegistry
from edgetrain.providers.oci.seen import DAY, Seen
from edgetrain.providers.oci.transport import ATTEMPTS, LONGEST_WAIT
from testbed.registry import Registry

from .front import Conforming, Cut, Front, Reply, Request
from .reach import reach
from .samples import MB, model_image

pytestmark = pytest.mark.needs("registry")

CHUNK = 256 * 1024
ROOT = Path(__file__).parents[3]


def first(
    times: int, act: Reply | Cut, wanted: Callable[[Request], bool]
) -> Callable[[Request], Reply | Cut | None]:
    """Do so with the first requests that are wanted."""
    left = [times]

    def rule(request: Request) -> Reply | Cut | None:
        if left[0] and wanted(request):
            left[0] -= 1
            return act
        return None

    return rule


def layer_bytes(front: Front) -> int:
    """The bytes of layers and configs that were sent."""
    return sum(one.body for one in front.requests if "/blobs/uploads/" in one.path)


def size_of(image: Image) -> int:
    return sum(layer.size for layer in image.layers) + len(image.config)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH"])
@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_registry_is_asked_again_and_slower(
    registry_open: Registry, repository: str, method: str, status: int
) -> None:
    pauses: list[float] = []
    made = model_image(MB)
    busy = first(
        3, Reply(status, body=b'{"errors":[{"code":"TOOMANYREQUESTS"}]}'), lambda one: one.method == method
    )
    with Front(registry_open, busy) as front:
        registry = reach(registry_open, front.host, sleep=pauses.append, chunk=CHUNK)
        registry.tag(repository, "1", registry.push(repository, made))
        assert registry.tags(repository) == {"1": digest_bytes(made.manifest)}
        assert registry.has(repository, digest_bytes(made.manifest))
    assert len(pauses) == 3
    assert all(0 < pause <= 21 for pause in pauses)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_pause_is_what_the_registry_asks_for(registry_open: Registry, repository: str, form: str) -> None:
    pauses: list[float] = []
    later = datetime.now(UTC) + timedelta(seconds=45)
    after = "45" if form == "seconds" else format_datetime(later, usegmt=True)
    with Front(registry_open, first(1, Reply(429, {"Retry-After": after}), lambda one: True)) as front:
        reach(registry_open, front.host, sleep=pauses.append).push(repository, model_image(1000))
    assert len(pauses) == 1
    assert 30 < pauses[0] <= 45


def test_no_registry_makes_us_wait_for_a_day(registry_open: Registry) -> None:
    pauses: list[float] = []
    with Front(registry_open, lambda _: Reply(503, {"Retry-After": "86400"})) as front:
        registry = reach(registry_open, front.host, sleep=pauses.append)
        with pytest.raises(Transient, match="503"):
            registry.tags("cxr")
        assert len(front.requests) == ATTEMPTS
    assert pauses == [LONGEST_WAIT] * (ATTEMPTS - 1)


def test_a_registry_that_stays_down_is_told_and_the_next_push_goes_on(
    registry_open: Registry, repository: str
) -> None:
    made = model_image(MB)
    with Front(registry_open, lambda one: Reply(500) if one.method in {"PATCH", "PUT"} else None) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        with pytest.raises(Transient) as caught:
            registry.push(repository, made)
        assert caught.value.reason == "RegistryBusy"
        assert not registry.has(repository, digest_bytes(made.manifest))
        assert registry.tags(repository) == {}
        front.rule = None
        assert registry.has(repository, registry.push(repository, made))


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (400, "MANIFEST_INVALID", Rejected, "RegistryRefused"),
        (400, "DIGEST_INVALID", Rejected, "DigestMismatch"),
        (400, "<script>", Rejected, "RegistryRefused"),
        (403, "DENIED", Denied, "NoRight"),
        (404, "NAME_UNKNOWN", NotFound, "NotThere"),
        (405, "UNSUPPORTED", Rejected, "RegistryUnsupported"),
        (409, "", Conflict, "RegistryConflict"),
        (413, "", Rejected, "TooLarge"),
        (501, "", Rejected, "RegistryUnsupported"),
    ],
)
def test_a_refusal_is_told_by_its_kind_and_not_repeated(
    registry_open: Registry, repository: str, status: int, code: str, kind: type[ProviderError], reason: str
) -> None:
    body = b'{"errors":[{"code":"%s","message":"the canary sings"}]}' % code.encode()
    with Front(registry_open, lambda one: Reply(status, body=body) if one.method == "PUT" else None) as front:
        with pytest.raises(kind) as caught:
            reach(registry_open, front.host).push(repository, model_image(1000))
        assert type(caught.value) is kind
        assert caught.value.reason == reason
        assert caught.value.fix
        assert "canary" not in caught.value.message
        assert "<" not in caught.value.message


def test_a_connection_that_breaks_within_a_layer_costs_that_layer_once_more(
    registry_open: Registry, repository: str
) -> None:
    """Docker distribution loses its place when a connection breaks within a chunk: the layer begins anew, soon
    or when the registry finds that its place was wrong after all."""
    made = model_image(MB)
    cut = first(1, Cut(100_000), lambda one: one.method == "PATCH" and len(front.of("PATCH")) == 3)
    with Front(registry_open, cut) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        assert registry.has(repository, registry.push(repository, made))
        assert size_of(made) < layer_bytes(front) <= 2 * size_of(made)


def test_a_layer_goes_on_where_a_chunk_broke_off(registry_open: Registry, repository: str) -> None:
    """Before a proxy that keeps whole requests, as nginx does, half a chunk never reaches the registry."""
    made = model_image(MB)
    cut = first(1, Cut(100_000), lambda one: one.method == "PATCH" and len(front.of("PATCH")) == 3)
    with Front(registry_open, cut, buffered=True) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        assert registry.has(repository, registry.push(repository, made))
        again = layer_bytes(front) - size_of(made)
        assert 100_000 <= again < CHUNK
        assert len(front.of("GET", "/blobs/uploads/")) == 1
        assert len(front.of("POST", "/blobs/uploads/")) == 3  # scoring, model, config: none of them twice


def test_a_layer_goes_on_within_a_chunk_where_the_registry_can(registry_open: Registry, repository: str) -> None:
    made = model_image(MB)
    cut = first(2, Cut(100_000), lambda one: one.method == "PATCH" and len(front.of("PATCH")) in {2, 3})
    with Conforming(registry_open, cut) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        assert registry.has(repository, registry.push(repository, made))
        # What came before each break was not sent again; the rest of the block it broke in was.
        assert 0 <= layer_bytes(front) - size_of(made) <= 2 * 65536
        starts = [int(one.headers["content-range"].partition("-")[0]) for one in front.of("PATCH")]
        assert starts[2] == starts[1] + 100_000


def test_a_connection_that_always_breaks_is_told(registry_open: Registry, repository: str) -> None:
    made = model_image(MB)
    with Front(registry_open, lambda one: Cut(1000) if one.method == "PATCH" else None) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        with pytest.raises(Transient) as caught:
            registry.push(repository, made)
        assert caught.value.reason in {"ConnectionBroke", "UploadLost"}
        assert not registry.has(repository, digest_bytes(made.manifest))


def test_a_registry_that_always_loses_its_place_is_not_pushed_to_for_ever(
    registry_open: Registry, repository: str
) -> None:
    def second_chunk(one: Request) -> Cut | None:
        return Cut(1000) if one.method == "PATCH" and not one.headers["content-range"].startswith("0-") else None

    with Front(registry_open, second_chunk) as front:
        with pytest.raises(Transient) as caught:
            reach(registry_open, front.host, chunk=CHUNK).push(repository, model_image(MB))
        assert caught.value.reason == "ConnectionUnsteady"
        assert len(front.of("POST", "/blobs/uploads/")) <= ATTEMPTS + 3


@pytest.mark.parametrize("size", [MB, 1000], ids=["in chunks", "whole"])
def test_only_the_answer_was_lost(registry_open: Registry, repository: str, size: int) -> None:
    made = model_image(size)
    lost = first(1, Cut(0, answer=True), lambda one: one.method == "PUT" and "/blobs/" in one.path)
    with Front(registry_open, lost) as front:
        registry = reach(registry_open, front.host, chunk=CHUNK)
        assert registry.has(repository, registry.push(repository, made))
        assert layer_bytes(front) == size_of(made)


@pytest.mark.parametrize("part", ["/manifests/sha256", "/manifests/1"])
def test_only_the_answer_to_a_manifest_was_lost(registry_open: Registry, repository: str, part: str) -> None:
    lost = first(1, Cut(0, answer=True), lambda one: one.method == "PUT" and part in one.path)
    with Front(registry_open, lost) as front:
        registry = reach(registry_open, front.host)
        digest = registry.push(repository, model_image(1000))
        registry.tag(repository, "1", digest)
        assert registry.tags(repository) == {"1": digest}
        assert len(front.of("PUT", part)) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_base_is_read_on_where_the_connection_broke(
    registry_open: Registry, repository: str, ranges: bool
) -> None:
    made = model_image(MB)
    digest = reach(registry_open).push(repository, made)
    with made.layers[1].open() as stream:
        data = stream.read()

    def rule(one: Request) -> Cut | Reply | None:
        if one.method != "GET" or made.layers[1].digest not in one.path:
            return None
        if len(front.of("GET", made.layers[1].digest)) == 1:
            return Cut(400_000, answer=True)
        return None if ranges else Reply(200, body=data)

    with Front(registry_open, rule) as front:
        base = reach(registry_open, front.host).base(f"{repository}@{digest}")
        with base.layers[1].open() as stream:
            assert stream.read() == data
        asked = front.of("GET", made.layers[1].digest)
        assert len(asked) == 2
        assert 0 < int(asked[1].headers["range"].removeprefix("bytes=").removesuffix("-")) <= 400_000


def test_bytes_that_are_not_of_the_digest_are_refused(registry_open: Registry, repository: str) -> None:
    made = model_image(1000)
    digest = reach(registry_open).push(repository, made)
    layer = made.layers[1]
    other = {"Docker-Content-Digest": digest_bytes(b"other")}
    with layer.open() as stream:
        data = stream.read()
    with Front(registry_open) as front:
        registry = reach(registry_open, front.host)
        base = registry.base(f"{repository}@{digest}")
        for wrong in (data[:-1] + b"x", data + b"x"):
            front.rule = lambda one, wrong=wrong: Reply(200, body=wrong) if layer.digest in one.path else None
            with base.layers[1].open() as stream, pytest.raises(Rejected):
                stream.read()
        front.rule = lambda one: Reply(200, body=made.manifest + b" ") if one.method == "GET" else None
        with pytest.raises(Rejected):
            registry.base(f"{repository}@{digest}")
        with pytest.raises(Rejected):
            registry.has(repository, digest)
        for method in ("HEAD", "PUT"):
            front.rule = lambda one, method=method: (
                Reply(201 if method == "PUT" else 200, other) if one.method == method else None
            )
            with pytest.raises(Rejected) as caught:
                registry.push(repository, model_image(1000, seed=2))
            assert caught.value.reason == "DigestMismatch"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"not JSON", b" " * (8 * 2**20 + 1)], ids=["none", "[]", "no", "long"]
)
def test_a_hostile_answer_is_refused(registry_open: Registry, data: bytes) -> None:
    with Front(registry_open, lambda _: Reply(200, body=data)) as front:
        registry = reach(registry_open, front.host)
        with pytest.raises(Rejected):
            registry.tags("cxr")
        with pytest.raises(Rejected):
            registry.base(f"cxr@{digest_bytes(data)}")


def test_pages_without_end_are_not_followed_for_ever(
    registry_open: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetrain.providers.oci.client.PAGES", 3)
    page = Reply(200, {"Link": '</v2/cxr/tags/list?n=1&last=a>; rel="next"'}, b'{"tags": ["../../x"]}')
    with Front(registry_open, lambda _: page) as front, pytest.raises(Rejected, match="without end"):
        reach(registry_open, front.host).tags("cxr")


def test_tags_come_page_by_page(registry_open: Registry, repository: str) -> None:
    made = model_image(1000)
    with Front(registry_open) as front:
        registry = reach(registry_open, front.host)
        digest = registry.push(repository, made)
        for tag in ("1", "2"):
            registry.tag(repository, tag, digest)
        pages = {
            "n=1000": Reply(200, {"Link": f"</v2/{repository}/tags/list?last=1>; rel=next"}, b'{"tags": ["1"]}'),
            "last=1": Reply(200, {}, b'{"tags": ["2"]}'),
        }
        front.rule = lambda one: pages.get(one.path.partition("?")[2])
        assert registry.tags(repository) == {"1": digest, "2": digest}


def test_layers_go_side_by_side(registry_open: Registry, repository: str) -> None:
    meeting = threading.Barrier(3)
    met = []

    def rule(one: Request) -> None:
        if one.method == "PUT" and "/blobs/" in one.path:
            met.append(meeting.wait(timeout=30))

    with Front(registry_open, rule) as front:
        reach(registry_open, front.host).push(repository, model_image(1000))
    assert sorted(met) == [0, 1, 2]


def test_what_is_there_is_not_sent_again(registry_open: Registry, repository: str) -> None:
    made = model_image(20 * MB)
    with Front(registry_open) as front:
        registry = reach(registry_open, front.host)
        registry.tag(repository, "1", registry.push(repository, made))
        assert front.received <= 1.05 * 20 * MB
        front.received = front.sent = 0
        registry.tag(repository, "1", registry.push(repository, made))
        assert front.received + front.sent < 10_000


def test_what_was_seen_whole_today_costs_no_request_while_a_tag_leads_to_it(
    registry_open: Registry, repository: str, tmp_path: Path
) -> None:
    digest = reach(registry_open).push(repository, model_image(1000))
    reach(registry_open).tag(repository, "1", digest)
    with Front(registry_open) as front:

        def asked(lately: bool, told: bool = True) -> int:
            """The requests of one look, in a process of its own."""
            registry = reach(registry_open, front.host, state=tmp_path)
            if told:
                registry.tags(repository)
            before = len(front.requests)
            assert registry.has(repository, digest, lately=lately)
            return len(front.requests) - before

        first = asked(lately=True)
        assert first > 1
        assert asked(lately=True) == 0
        assert asked(lately=True, told=False) == asked(lately=False) == first
        with Seen(tmp_path, front.host, time.time() + DAY) as seen:
            assert not seen.today(repository, digest)
        reach(registry_open).tag(repository, "1", None)
        assert asked(lately=True) == first, "only a tag shows that it is still there"


PUSH = """
import sys
from edgetrain.providers.oci.provider import OciRegistry
from tests.providers.oci.samples import MB, model_image
OciRegistry(sys.argv[1], plain_http=True, chunk=int(sys.argv[3])).push(sys.argv[2], model_image(2 * MB))
"""


@pytest.mark.parametrize("at", ["POST", "PATCH", "PUT /blobs/", "PUT /manifests/"])
def test_a_push_killed_anywhere_converges(registry_open: Registry, repository: str, at: str) -> None:
    made = model_image(2 * MB)
    reached = threading.Event()
    held = threading.Event()
    method, _, part = at.partition(" ")

    def hold(one: Request) -> None:
        if one.method == method and part in one.path:
            reached.set()
            held.wait(timeout=60)

    with Front(registry_open, hold) as front:
        command = [sys.executable, "-c", PUSH, front.host, repository, str(CHUNK)]
        with subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}) as process:
            assert reached.wait(timeout=60)
            process.send_signal(signal.SIGKILL)
        front.rule = None
        registry = reach(registry_open)
        assert not registry.has(repository, digest_bytes(made.manifest))
        assert registry.tags(repository) == {}
        held.set()
        assert registry.has(repository, registry.push(repository, made))


def test_a_failing_layer_stops_the_others(registry_open: Registry, repository: str) -> None:
    """And what it was is told, not that the others were stopped."""
    with Front(registry_open, lambda one: Reply(403) if one.method == "PATCH" else None) as front:
        registry: OciRegistry = reach(registry_open, front.host, chunk=CHUNK)
        with pytest.raises(Denied):
            registry.push(repository, model_image(MB))
