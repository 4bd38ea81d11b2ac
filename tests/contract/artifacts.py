"""What every artifact store must do. A provider's test class inherits this and gives the fixture `store`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import ArtifactStore, CheckStatus

HOSTILE = ["", "..", "a/../b", "/etc/passwd", "a//b", "a b", "a\nb", "a\0b", "./a", "é", "a" * 300]


class ArtifactStoreContract:
    """The contract of `core.ports.ArtifactStore`."""

    def test_bytes_come_back_under_their_digest(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"weights")
        assert digest == digest_bytes(b"weights")
        with store.open(digest) as stream:
            assert stream.read() == b"weights"
        assert store.size(digest) == 7

    def test_a_file_counts_as_its_bytes(self, store: ArtifactStore, tmp_path: Path) -> None:
        data = bytes(range(256)) * 10_000
        source = tmp_path / "model.onnx"
        source.write_bytes(data)
        digest = store.put_file(source)
        assert digest == digest_bytes(data) == store.put_bytes(data)
        with store.open(digest) as stream:
            assert stream.read(3) == data[:3]
            assert stream.read() == data[3:]
        assert list(store.digests()) == [(digest, len(data))]

    def test_nothing_is_stored_of_the_empty(self, store: ArtifactStore) -> None:
        digest = store.put_bytes(b"")
        assert store.size(digest) == 0
        with store.open(digest) as stream:
            assert stream.read() == b""

    def test_a_link_is_not_followed(self, store: ArtifactStore, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        (tmp_path / "model.onnx").symlink_to(tmp_path / "secret")
        with pytest.raises(Rejected):
            store.put_file(tmp_path / "model.onnx")
        with pytest.raises(Rejected):
            store.put_file(tmp_path)
        assert list(store.digests()) == []

    def test_what_is_absent_is_told(self, store: ArtifactStore, tmp_path: Path) -> None:
        absent = digest_bytes(b"absent")
        assert store.size(absent) is None
        with pytest.raises(NotFound):
            store.open(absent)
        with pytest.raises(NotFound):
            store.put_file(tmp_path / "absent")
        store.delete(absent)

    def test_delete_removes_only_what_is_named(self, store: ArtifactStore) -> None:
        first, second = store.put_bytes(b"1"), store.put_bytes(b"22")
        assert sorted(store.digests()) == sorted([(first, 1), (second, 2)])
        store.delete(first)
        store.delete(first)
        assert list(store.digests()) == [(second, 2)]

    @pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc", "sha256:" + "A" * 64, "md5:" + "a" * 64])
    def test_a_malformed_digest_is_refused(self, store: ArtifactStore, digest: str) -> None:
        for use in (store.open, store.size, store.delete):
            with pytest.raises(Rejected):
                use(digest)

    def test_the_first_claim_holds(self, store: ArtifactStore) -> None:
        assert store.claim("tickets/run-1", b"first") == b"first"
        assert store.claim("tickets/run-1", b"second") == b"first"
        store.release_claim("tickets/run-1")
        store.release_claim("tickets/run-1")
        assert store.claim("tickets/run-1", b"third") == b"third"

    def test_claims_are_found_by_the_start_of_their_name(self, store: ArtifactStore) -> None:
        for name in ("t", "t/a-1", "t/a-2", "t/a-2/x", "t/b-1", "u/a-1"):
            store.claim(name, name.encode())
        assert sorted(store.claims("t/a")) == [(n, n.encode()) for n in ("t/a-1", "t/a-2", "t/a-2/x")]
        assert sorted(n for n, _ in store.claims("t/")) == ["t/a-1", "t/a-2", "t/a-2/x", "t/b-1"]
        assert len(list(store.claims(""))) == 6
        assert list(store.claims("v/")) == []

    def test_of_many_claimants_one_wins_and_all_know(self, store: ArtifactStore) -> None:
        values = [str(n).encode() for n in range(24)]
        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(lambda value: store.claim("race", value), values))
        assert len(answers) == 1
        assert answers == {value for _, value in store.claims("race")}
        assert answers <= set(values)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_an_unsafe_claim_is_refused(self, store: ArtifactStore, name: str) -> None:
        with pytest.raises(Rejected):
            store.claim(name, b"x")
        with pytest.raises(Rejected):
            store.release_claim(name)
        assert list(store.claims("")) == []

    def test_a_lock_keeps_others_out_until_it_is_free(self, store: ArtifactStore) -> None:
        with ThreadPoolExecutor(1) as other:

            def attempt(name: str) -> str:
                try:
                    with store.lock(name, timeout=0.05):
                        return "held"
                except Conflict as error:
                    return error.reason

            with store.lock("model/../cxr triage"):
                assert other.submit(attempt, "model/../cxr triage").result() == "Locked"
                assert other.submit(attempt, "another").result() == "held"
            assert other.submit(attempt, "model/../cxr triage").result() == "held"

    def test_a_lock_is_free_after_a_failure(self, store: ArtifactStore) -> None:
        with pytest.raises(KeyError), store.lock("m"):
            raise KeyError
        with store.lock("m", timeout=0.05):
            assert store.size(digest_bytes(b"x")) is None

    def test_a_diagnosis_leaves_nothing(self, store: ArtifactStore) -> None:
        checks = store.diagnose()
        assert {check.name for check in checks} == {"artifacts-write", "artifacts-claim", "artifacts-lock"}
        assert {check.status for check in checks} == {CheckStatus.PASS}
        assert list(store.digests()) == []
        assert list(store.claims("")) == []
