"""Code on its way to a machine: what is packed comes out the same, and nothing is written elsewhere."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.onsite.vm.fault import Fault
from edgetrain.onsite.vm.unpack import unpack
from edgetrain.providers.ssh.transfer import packed, small


def test_code_comes_out_as_it_went_in(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "inner").mkdir(parents=True)
    (code / "inner" / "train.py").write_text("print('é')")
    (code / "run.sh").write_text("true")
    (code / "run.sh").chmod(0o755)
    os.link(code / "run.sh", code / "twice.sh")
    (code / "link").symlink_to("inner/train.py")
    out = tmp_path / "out"
    out.mkdir()
    unpack(io.BytesIO(b"".join(packed(code))), out)
    assert (out / "inner" / "train.py").read_text() == "print('é')"
    assert (out / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "twice.sh").read_text() == "true"
    assert (out / "twice.sh").stat().st_nlink == 1
    assert (out / "link").readlink() == Path("inner/train.py")
    assert small(code) is not None
    (code / "large").write_bytes(bytes(2**21))
    assert small(code) is None


def archive(*members: Callable[[], tarfile.TarInfo]) -> io.BytesIO:
    """A tar stream of these."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for member in members:
            entry = member()
            file.addfile(entry, io.BytesIO(bytes(entry.size)))
    buffer.seek(0)
    return buffer


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> Callable[[], tarfile.TarInfo]:
    """One member."""

    def make() -> tarfile.TarInfo:
        found = tarfile.TarInfo(name)
        found.type, found.linkname, found.size = kind, link, size
        return found

    return make


@pytest.mark.parametrize(
    "members",
    [
        [entry("../out")],
        [entry("/absolute")],
        [entry("a/../../out")],
        [entry("pipe", tarfile.FIFOTYPE)],
        [entry("device", tarfile.CHRTYPE)],
        [entry("hard", tarfile.LNKTYPE, "/etc/passwd")],
    ],
)
def test_what_leads_outside_is_refused(tmp_path: Path, members: list[Callable[[], tarfile.TarInfo]]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(Fault) as caught:
        unpack(archive(*members), folder)
    assert (caught.value.kind, caught.value.reason) == ("Rejected", "InvalidCode")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    with pytest.raises(OSError):
        unpack(archive(entry("door", tarfile.SYMTYPE, str(outside)), entry("door/file")), folder)
    assert list(outside.iterdir()) == []


def test_a_stream_that_was_cut_can_be_sent_again(tmp_path: Path) -> None:
    whole = archive(entry("a", size=4096), entry("b", size=4096)).getvalue()
    for number, length in enumerate((100, 700, 6000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(Fault) as caught:
            unpack(io.BytesIO(whole[:length]), folder)
        assert caught.value.kind == "Transient"
