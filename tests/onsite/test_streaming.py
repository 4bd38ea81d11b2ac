"""Data that the runner sends because the VM can't pull: the program's side and the runner's side together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import DataEntry
from edgetrain.providers.azure_blob.datastore import from_settings
from edgetrain.providers.ssh.streaming import Staged, feed, stage
from testbed.azurite import Azurite
from tests.onsite.blob_server import BlobServer
from tests.onsite.program import Program, tree
from tests.providers.azure_blob.stores import declared, new_container

PIECE = 16 * 2**20
DATA = {"a.csv": b"1,2\n", "b/é x.bin": os.urandom(3_000_000), "empty": b"", "large": os.urandom(3 * PIECE + 7)}
SOURCE = {"kind": "azure-blob", "location": "https://far.example/data", "path": "in", "access": {"sas": "none"}}


class Pipes:
    """A channel to a program on this machine, through pipes as small as any."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.kill_behind: int | None = None
        self.sent = 0

    def write(self, data: bytes) -> None:
        """Send."""
        assert self.process.stdin
        self.sent += len(data)
        if self.kill_behind is not None and self.sent > self.kill_behind:
            self.process.kill()
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Transient("the connection broke off") from None

    def read_line(self) -> bytes:
        """Read."""
        assert self.process.stdout
        return self.process.stdout.readline()

    def end(self) -> None:
        """Wait for the program's end."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what it was still to get, it does not want
        self.process.wait(timeout=60)


class Files:
    """Data in memory as a stream; `read` counts what is read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.count = 0
        self.before: Callable[[str], None] = lambda name: None

    def entries(self) -> Iterator[DataEntry]:
        """All."""
        for name, content in self.files.items():
            yield DataEntry(name, len(content), f'"{digest_bytes(content)[-16:]}"')

    def read(self, entry: DataEntry, offset: int = 0) -> Iterator[bytes]:
        """One, in parts of odd sizes."""
        self.before(entry.name)
        content = self.files[entry.name]
        if digest_bytes(content)[-16:] != entry.tag:
            raise Rejected("the data changed", reason="DataChanged", fix="wait")
        for start in range(offset, len(content), 1_234_567):
            part = content[start : start + 1_234_567]
            self.count += len(part)
            yield part


def send(program: Program, files: Any, source: Mapping[str, Any] = SOURCE, **more: Any) -> Staged:
    channel = Pipes(program.command())
    try:
        return feed(files, channel, request(program, source, **more))
    finally:
        channel.end()


def request(program: Program, source: Mapping[str, Any] = SOURCE, **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(program.request("", source, **more))
    return asked


def digest_of(data: Mapping[str, bytes]) -> str:
    return tree_digest((name, digest_bytes(content)) for name, content in data.items())


def test_what_is_sent_is_staged(program: Program) -> None:
    files = Files(DATA)
    staged = send(program, files)
    assert staged.digest == digest_of(DATA)
    assert (staged.files, staged.moved) == (len(DATA), sum(map(len, DATA.values())))
    assert staged.view and tree(Path(staged.view)) == DATA
    assert files.count == staged.moved
    program.whole()
    again = send(program, files, expected=staged.digest)
    assert (again.view, again.moved) == (staged.view, 0)
    assert files.count == staged.moved


def test_many_small_files_and_only_what_changed(program: Program) -> None:
    files = Files({f"{number:04}": b"%d" % number for number in range(1500)})
    assert send(program, files).digest == digest_of(files.files)
    files.files["0007"] = b"other"
    staged = send(program, files)
    assert (staged.digest, staged.moved) == (digest_of(files.files), 5)


def test_digest_alone_of_more_than_the_limit(program: Program) -> None:
    staged = send(program, Files(DATA), view=False, limit=10)
    assert (staged.digest, staged.view) == (digest_of(DATA), None)
    assert program.blobs() == []


def test_a_single_file(program: Program) -> None:
    staged = send(program, Files({"a.csv": b"1"}), {**SOURCE, "path": "in/a.csv"}, single=True)
    assert staged.digest == digest_of({"a.csv": b"1"})


def test_an_empty_input_is_an_empty_tree(program: Program) -> None:
    assert send(program, Files({})).digest == digest_of({})


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_killed_in_a_large_file_it_goes_on(program: Program, pieces: int) -> None:
    files = Files({"large": DATA["large"]})
    channel = Pipes(program.command())
    channel.kill_behind = pieces * PIECE + PIECE // 2
    with pytest.raises(Transient):
        feed(files, channel, request(program))
    channel.end()
    left = len(DATA["large"]) - max(0, pieces - 1) * PIECE
    assert send(program, files).moved <= left
    program.whole()
    assert list((program.cache / "work").iterdir()) == []


def test_data_that_changes_meanwhile(program: Program) -> None:
    files = Files({f"{number:02}": b"old" for number in range(90)})

    def change(name: str) -> None:
        if name == "70":
            files.files[name] = b"new"

    files.before = change
    with pytest.raises(Rejected) as caught:
        send(program, files)
    assert caught.value.reason == "DataChanged"
    assert send(program, files).digest == digest_of(files.files)


@pytest.mark.parametrize("error", [NotFound("gone", reason="DataMissing"), Transient("down"), Denied("no")])
def test_data_that_can_not_be_listed(program: Program, error: ProviderError) -> None:
    class Broken(Files):
        def entries(self) -> Iterator[DataEntry]:
            yield DataEntry("a", 1, "t")
            raise error

    with pytest.raises(type(error)) as caught:
        send(program, Broken({}))
    assert caught.value is error


def test_what_is_not_expected_is_told(program: Program) -> None:
    with pytest.raises(Rejected) as caught:
        send(program, Files({"a": b"1"}), expected="sha256:" + "0" * 64)
    assert caught.value.reason == "DataChanged"


def test_a_name_that_leads_out_is_refused(program: Program) -> None:
    with pytest.raises(Rejected) as caught:
        send(program, Files({"../../etc/passwd": b"1"}))
    assert caught.value.reason == "InvalidName"


FORGED = """
import json, sys
lines = sys.stdin.buffer
lines.readline()
while "listed" not in (message := json.loads(lines.readline())):
    entry = message["entry"]
name, size, tag, proof = entry
print(json.dumps({"want": [[%s, size, tag, proof, 0]]}), flush=True)
lines.read()
"""


@pytest.mark.parametrize("name", ["'../../etc/passwd'", "'other'", "7"])
def test_a_vm_gets_nothing_but_the_input(program: Program, name: str) -> None:
    files = Files({"a": b"1"})
    channel = Pipes([sys.executable, "-c", FORGED % name])
    with pytest.raises(Rejected) as caught:
        feed(files, channel, request(program))
    channel.end()
    assert caught.value.reason == "UnexpectedRequest"
    assert files.count == 0


@pytest.mark.parametrize("said", ["hello", "[]", '{"digest": 1}', '{"digest": "sha256:0", "view": null}'])
def test_an_answer_of_something_else(program: Program, said: str) -> None:
    channel = Pipes([sys.executable, "-c", f"print({said!r})"])
    with pytest.raises((Rejected, Transient)):
        stage(channel, request(program))
    channel.end()


def test_the_vm_pulls_with_progress(program: Program, store: BlobServer) -> None:
    store.blobs = {"in/a": b"1"}
    channel = Pipes(program.command())
    staged = stage(channel, request(program, store.source("in")))
    channel.end()
    assert staged == Staged(digest_of({"a": b"1"}), 1, 1, 1, staged.view, False)
    channel = Pipes(program.command())
    with pytest.raises(Transient) as caught:
        stage(channel, request(program, {**store.source("in"), "location": "http://127.0.0.1:1/x"}))
    channel.end()
    assert caught.value.reason == "Unreachable"


@pytest.mark.needs("azurite")
def test_from_azurite_through_the_runner(azurite: Azurite, program: Program, tmp_path: Path) -> None:
    container = new_container(azurite, {f"in/{name}": content for name, content in DATA.items()})
    store = from_settings(declared(azurite, container, tmp_path))
    found = store.source("in")
    assert found.stream
    staged = send(program, found.stream, {"kind": found.kind, "location": found.location, "path": found.path})
    assert staged.digest == store.digest("in").digest
    pulled = program.stage(
        {"kind": found.kind, "location": found.location, "path": found.path, "access": dict(found.access)}
    )
    assert (pulled["digest"], pulled["moved"]) == (staged.digest, 0)
