"""What every datastore must do. A provider's test class inherits this and gives the fixture `fill`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import CheckStatus, DataDigest, Datastore, DataStream

Fill = Callable[[Mapping[str, bytes]], Datastore]

FILES = {
    "cxr/2026q3/ward-1/doe_jane.dcm": b"pixels" * 1000,
    "cxr/2026q3/ward-2/müller.dcm": b"more pixels",
    "cxr/2026q3/index.csv": b"",
    "cxr/2026q4/doe_john.dcm": b"pixels",
    "labs.csv": b"a,b\n1,2\n",
}


class DatastoreContract:
    """The contract of `core.ports.Datastore`. `fill(files)` gives a datastore that holds just these."""

    def test_a_folder_is_a_tree_of_names_and_contents(self, fill: Fill) -> None:
        expected = DataDigest(
            tree_digest(
                (name.removeprefix("cxr/2026q3/"), digest_bytes(data))
                for name, data in FILES.items()
                if name.startswith("cxr/2026q3/")
            ),
            files=3,
            bytes=6011,
        )
        store = fill(FILES)
        for path in ("cxr/2026q3/", "cxr/2026q3", "./cxr//2026q3/."):
            assert store.digest(path) == expected

    def test_a_file_is_a_tree_of_its_base_name(self, fill: Fill) -> None:
        expected = tree_digest([("labs.csv", digest_bytes(b"a,b\n1,2\n"))])
        assert fill(FILES).digest("labs.csv") == DataDigest(expected, 1, 8)

    def test_the_root_is_all_of_it(self, fill: Fill) -> None:
        expected = tree_digest((name, digest_bytes(data)) for name, data in FILES.items())
        assert fill(FILES).digest(".").digest == expected

    def test_every_change_shows(self, fill: Fill) -> None:
        changed = [
            FILES,
            {**FILES, "labs.csv": b"a,b\n1,3\n"},
            {**FILES, "more.csv": b""},
            {name: data for name, data in FILES.items() if name != "labs.csv"},
            {("lab.csv" if name == "labs.csv" else name): data for name, data in FILES.items()},
        ]
        assert len({fill(files).digest("").digest for files in changed}) == len(changed)

    def test_the_place_does_not_count(self, fill: Fill) -> None:
        here = fill({"a/x.csv": b"1", "b/x.csv": b"1"})
        assert here.digest("a") == here.digest("b") == here.digest("a/x.csv")

    def test_the_bytes_read_are_told(self, fill: Fill) -> None:
        told: list[int] = []
        fill(FILES).digest("cxr", told.append)
        assert sum(told) == 6017

    @pytest.mark.parametrize("path", ["absent", "cxr/absent.dcm", "absent/absent", "labs.csv/x"])
    def test_what_is_absent_is_told(self, fill: Fill, path: str) -> None:
        store = fill(FILES)
        for use in (store.digest, store.source):
            with pytest.raises(NotFound) as caught:
                use(path)
            assert path in caught.value.message
            assert caught.value.fix

    @pytest.mark.parametrize("path", ["/etc", "..", "cxr/../..", "../x", "cxr/\0"])
    def test_a_path_outside_is_refused(self, fill: Fill, path: str) -> None:
        store = fill(FILES)
        for use in (store.digest, store.source):
            with pytest.raises(Rejected) as caught:
                use(path)
            assert caught.value.reason == "PathOutside"

    def test_a_source_says_where(self, fill: Fill) -> None:
        store = fill(FILES)
        assert store.source("cxr/2026q3/") == store.source("cxr/2026q3")
        for path in ("cxr/2026q3", "labs.csv"):
            source = store.source(path)
            assert f"{source.location}/{source.path}".rstrip("/").endswith(path)
            assert source.kind

    @pytest.mark.parametrize(
        ("path", "prefix"), [("cxr/2026q3/", "cxr/2026q3/"), (".", ""), ("cxr/2026q4/doe_john.dcm", "cxr/2026q4/")]
    )
    def test_a_stream_gives_every_file(self, fill: Fill, path: str, prefix: str) -> None:
        stream = streamed(fill(FILES), path)
        found = {
            entry.name: (entry.size, b"".join(stream.read(entry)), b"".join(stream.read(entry, 3)))
            for entry in stream.entries()
        }
        assert found == {
            name.removeprefix(prefix): (len(data), data, data[3:])
            for name, data in FILES.items()
            if name.startswith(prefix)
        }

    def test_a_renewed_source_reads_the_same(self, fill: Fill) -> None:
        source = fill(FILES).source("cxr")
        assert source.renew is not None
        again = source.renew()
        assert again == source
        assert again.stream is not None
        assert again.renew is not None

    def test_a_stream_tells_what_is_not_its_entry_any_more(self, fill: Fill) -> None:
        stream = streamed(fill(FILES), "cxr/2026q3")
        entry = max(stream.entries(), key=lambda found: found.size)
        for other in (replace(entry, tag="another"), replace(entry, name="absent")):
            with pytest.raises(Rejected) as caught:
                list(stream.read(other))
            assert caught.value.reason == "DataChanged"
            assert "jane" not in caught.value.message

    def test_a_diagnosis_tells_what_is_readable(self, fill: Fill) -> None:
        checks = fill(FILES).diagnose(["cxr", "labs.csv", "absent"])
        assert [check.status for check in checks[:-1]] == [CheckStatus.PASS] * (len(checks) - 1)
        assert checks[-1].status is CheckStatus.FAIL
        assert checks[-1].reason
        assert checks[-1].fix
        assert "absent" in checks[-1].message


def streamed(store: Datastore, path: str) -> DataStream:
    stream = store.source(path).stream
    assert stream is not None
    return stream
