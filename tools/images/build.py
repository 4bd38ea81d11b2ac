"""Builds a base image: `python tools/images/build.py train|serve --out LAYOUT_DIR`. Needs mmdebstrap, and root.

`train` is Debian 12 with Python 3.11 and what wheels of numeric packages need; `serve` adds NumPy and ONNX Runtime
(tools/images/serve.txt, by hash). Packages come from the machine's own apt sources (elsewhere from mmdebstrap's
default), wheels from pip's own index.
The same packages give the same bytes: times are fixed, files are sorted, what differs from build to build is left
out, and layers are not compressed (gzip's bytes differ from one zlib to another). Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUITE = "bookworm"
PYTHON = "3.11"
PACKAGES = ("python3", "libstdc++6", "libgomp1", "dash", "coreutils")
# The day of Debian 12's first point release with these packages is of no matter; that it is fixed is.
EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"
WHEELS = Path(__file__).with_name("serve.txt")
DIST_PACKAGES = "usr/lib/python3/dist-packages"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")

# State of the build, the builder's own settings, and what no program reads. Copyright files stay.
DROPPED = (
    "dev/*",
    "etc/apt",
    "etc/fstab",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "proc/*",
    "run/*",
    "sys/*",
    "usr/share/bug",
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log",
)
# What packages' own scripts would make; these are not run, since their results differ from run to run.
ADDED = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
FOLDERS = {"tmp": 0o1777, "root": 0o700, "proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755}


class BuildFailed(Exception):
    """The base can't be built; the message says why."""


@dataclass(frozen=True)
class Blob:
    """A file by its digest, "sha256:...", and size in bytes."""

    digest: str
    size: int

    def described(self, media_type: str) -> dict[str, object]:
        """A descriptor of the OCI image specification."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


def apt_sources() -> list[Path]:
    """The machine's apt sources of Debian's `SUITE`; none on another system: mmdebstrap then takes its default."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [
        file
        for file in files
        if file.suffix in (".list", ".sources") and file.is_file() and SUITE in file.read_text(errors="replace")
    ]


def recipe(kind: str) -> str:
    """A digest of all that this script decides: the same recipe on the same packages gives the same image."""
    parts = [Path(__file__).read_bytes(), kind.encode()]
    if kind == "serve":
        parts.append(WHEELS.read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def debian_layer(out: Path, sources: Sequence[Path]) -> None:
    """Write the layer with Debian's packages. Raises BuildFailed."""
    if shutil.which("mmdebstrap") is None:
        raise BuildFailed("mmdebstrap is not installed; on Debian: apt-get install mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="edgetrain-base-") as scratch:
        raw = Path(scratch, "raw.tar")
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}"]
        command += [SUITE, str(raw), *(str(source) for source in sources)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise BuildFailed(f"mmdebstrap failed: {done.stderr.strip()[-2000:]}")
        with tarfile.open(raw) as packed:
            members = {_clean(member.name): member for member in packed}
            kept = {name: member for name, member in members.items() if name and not _dropped(name)}
            with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as layer:
                for name in sorted({*kept, *ADDED, *FOLDERS}):
                    if name in ADDED:
                        _add(layer, name, ADDED[name].encode())
                    elif name in FOLDERS:
                        _add_folder(layer, name, FOLDERS[name])
                    else:
                        _copy(packed, layer, name, kept[name])


def wheels_layer(out: Path) -> None:
    """Write the layer with the wheels of `WHEELS`. Raises BuildFailed."""
    with tempfile.TemporaryDirectory(prefix="edgetrain-wheels-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--dest", scratch]
        command += ["--python-version", PYTHON, "--implementation", "cp"]
        for abi in ("cp" + PYTHON.replace(".", ""), "abi3", "none"):
            command += ["--abi", abi]
        for platform in PLATFORMS:
            command += ["--platform", platform]
        done = subprocess.run([*command, "--requirement", str(WHEELS)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildFailed(f"pip download failed: {done.stderr.strip()[-2000:]}")
        files: dict[str, tuple[bytes, int]] = {}
        for wheel in sorted(Path(scratch).glob("*.whl")):
            for name, content, mode in _unpacked(wheel):
                if name in files:
                    raise BuildFailed(f"two wheels hold {name}")
                files[name] = (content, mode)
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as layer:
        for name in sorted({*files, *folders}):
            if name in files:
                _add(layer, name, *files[name])
            else:
                _add_folder(layer, name, 0o755)


def _unpacked(wheel: Path) -> Iterator[tuple[str, bytes, int]]:
    """The files of a wheel by their path in the image (Python's "binary distribution format", unpacking)."""
    with zipfile.ZipFile(wheel) as packed:
        for entry in packed.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir():
                continue
            if path.is_absolute() or ".." in path.parts:
                raise BuildFailed(f"{wheel.name} holds an unsafe path")
            if path.parts[0].endswith(".data"):
                if path.parts[1] not in ("purelib", "platlib"):
                    continue  # scripts and headers: nothing runs or compiles in the image
                path = PurePosixPath(*path.parts[2:])
            mode = 0o755 if entry.external_attr >> 16 & 0o100 else 0o644
            yield f"{DIST_PACKAGES}/{path}", packed.read(entry), mode


def _clean(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _dropped(name: str) -> bool:
    """Whether a pattern fits the path or a folder that holds it."""
    path = PurePosixPath("/", name)
    return any(each.match(f"/{pattern}") for pattern in DROPPED for each in (path, *path.parents))


def _info(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = EPOCH, mode
    return info


def _add(layer: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = _info(name, mode)
    info.size = len(content)
    layer.addfile(info, io.BytesIO(content))


def _add_folder(layer: tarfile.TarFile, name: str, mode: int) -> None:
    info = _info(name, mode)
    info.type = tarfile.DIRTYPE
    layer.addfile(info)


def _copy(packed: tarfile.TarFile, layer: tarfile.TarFile, name: str, member: tarfile.TarInfo) -> None:
    info = _info(name, member.mode)
    info.type, info.size = member.type, member.size
    info.linkname = _clean(member.linkname) if member.islnk() else member.linkname
    if member.ischr() or member.isblk():
        return
    layer.addfile(info, packed.extractfile(member) if member.isreg() else None)


def write_layout(out: Path, layers: Sequence[tuple[Path, str]], name: str) -> str:
    """Write an OCI image layout with one image of these layers (file, what it is); answer its digest."""
    blobs = out / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    described = []
    for file, _ in layers:
        blob = _file_blob(file)
        shutil.copyfile(file, blobs / blob.digest.removeprefix("sha256:"))
        described.append(blob)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"],
            "Cmd": ["python3"],
            "Labels": {"org.opencontainers.image.title": name, "edgetrain.python": PYTHON},
        },
        "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in described]},
        "history": [{"created": CREATED, "created_by": f"edgetrain: {what}"} for _, what in layers],
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _put(blobs, config).described(f"{kind}.config.v1+json"),
        "layers": [blob.described(f"{kind}.layer.v1.tar") for blob in described],
    }
    blob = _put(blobs, manifest)
    entry = {**blob.described(f"{kind}.manifest.v1+json")}
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (out / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    (out / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return blob.digest


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _put(blobs: Path, value: Mapping[str, object]) -> Blob:
    data = _json(value)
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return Blob(f"sha256:{digest}", len(data))


def _file_blob(file: Path) -> Blob:
    with file.open("rb") as stream:
        return Blob(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}", file.stat().st_size)


def build(kind: str, out: Path, sources: Sequence[Path] | None = None, debian: Path | None = None) -> str:
    """Build `train` or `serve` into the layout folder `out`; answer the image's digest. Raises BuildFailed.

    `debian` is where Debian's layer is kept from one build to the next.
    """
    with tempfile.TemporaryDirectory(prefix="edgetrain-image-") as scratch:
        base = debian or Path(scratch, "debian.tar")
        if not base.is_file():
            fresh = Path(scratch, "fresh.tar")
            debian_layer(fresh, sources or apt_sources())
            shutil.copyfile(fresh, f"{base}.{os.getpid()}")
            Path(f"{base}.{os.getpid()}").rename(base)
        layers = [(base, f"Debian {SUITE} with Python {PYTHON}")]
        if kind == "serve":
            wheels = Path(scratch, "wheels.tar")
            wheels_layer(wheels)
            layers.append((wheels, "NumPy and ONNX Runtime"))
        return write_layout(out, layers, kind)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers its exit status."""
    parser = argparse.ArgumentParser(description="Build a base image into an OCI image layout.")
    parser.add_argument("kind", choices=("train", "serve"), help="for training, or for serving ONNX models")
    parser.add_argument("--out", type=Path, required=True, help="the layout's folder, which must not exist yet")
    parser.add_argument("--sources", type=Path, action="append", help=f"apt sources of Debian {SUITE}")
    given = parser.parse_args(arguments)
    if given.out.exists():
        parser.error(f"{given.out} is there already")
    try:
        digest = build(given.kind, given.out, given.sources)
    except BuildFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    print(f"{given.kind}@{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
