"""The exact files that a run gets as its code, and what their names and contents say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from edgetrain.core.codes import egress as codes
from edgetrain.core.digest import tree_digest
from edgetrain.core.problem import Code
from edgetrain.core.quantity import human_bytes


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# A file may have this share of limits.codeSize.
SHARE = 4
EXECUTABLE_SUFFIX = "\x01x"
HEAD = 64 * 2**10

_DATA = {
    "a table": "csv tsv psv arff parquet feather arrow ipc orc avro xls xlsx xlsm xlsb ods sav por dta sas7bdat "
    "xpt rds rdata rda jsonl ndjson dbf mdb accdb",
    "an array": "npy npz h5 hdf5 hdf he5 mat nc netcdf zarr tfrecord tfrecords recordio lmdb mdf",
    "an image of medicine or a raster": "dcm dicom nii mha mhd nrrd nhdr mgz mgh svs ndpi czi tif tiff edf bdf",
    "a dump of Python objects": "pkl pickle pck joblib dill cloudpickle shelve",
    "a database": "db db3 sqlite sqlite3 duckdb ldb dump bak mysql psql",
    "an archive": "zip tar gz tgz bz2 tbz xz txz zst 7z rar lz4 lzma cab ar cpio iso img",
    "model weights": "pt pth ckpt safetensors onnx pb tflite keras gguf ggml bin weights caffemodel mlmodel pmml",
}
_DATA_ENDINGS = {ending: what for what, endings in _DATA.items() for ending in endings.split()}
_COMPILED = words("pyc pyo pyd so dll dylib o a lib exe egg whl jar class wasm node")
_OTHER = words("r jl js mjs ts pl pm rb php lua go rs java scala kt c cc cpp h hpp cu f90 m ps1 bat cmd pyx")
_SECRET = re.compile(
    r"\.env(\.(?!example$|sample$|template$).*)?|.*\.(pem|key|pfx|p12|jks|keystore|kdbx|ppk|ovpn|rdp)"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|\.(netrc|pgpass|pypirc|htpasswd|git-credentials|dockercfg|boto|s3cfg)|kubeconfig"
    r"|(service[-_]account|client[-_]secret|credentials).*\.json"
)
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "a table (Parquet)"),
    (0, b"ARROW1", "a table (Arrow)"),
    (0, b"Obj\x01", "a table (Avro)"),
    (0, b"ORC", "a table (ORC)"),
    (0, b"\x89HDF\r\n", "an array (HDF5)"),
    (0, b"\x93NUMPY", "an array (NumPy)"),
    (0, b"MATLAB 5.0", "an array (MATLAB)"),
    (128, b"DICM", "an image of medicine (DICOM)"),
    (344, b"n+1\0", "an image of medicine (NIfTI)"),
    (344, b"ni1\0", "an image of medicine (NIfTI)"),
    (0, b"II*\0", "a raster (TIFF)"),
    (0, b"MM\0*", "a raster (TIFF)"),
    (0, b"SQLite format 3\0", "a database (SQLite)"),
    (0, b"PK\x03\x04", "an archive (ZIP)"),
    (0, b"\x1f\x8b", "an archive (gzip)"),
    (0, b"BZh", "an archive (bzip2)"),
    (0, b"\xfd7zXZ", "an archive (xz)"),
    (0, b"\x28\xb5\x2f\xfd", "an archive (Zstandard)"),
    (0, b"7z\xbc\xaf", "an archive (7z)"),
    (0, b"Rar!", "an archive (RAR)"),
    (257, b"ustar", "an archive (tar)"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_BINARIES = (b"\x7fELF", b"MZ\x90", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_SHEBANG = re.compile(rb"#!\s*(?:/\S*/)?(?:env\s+(?:-S\s+)?)?([A-Za-z]+)")
_PROGRAM = re.compile(r"(?:^|[\s/;&|(])(?:python|pypy)[0-9.]*\s+(?:-[A-Za-z]+\s+)*([^\s-][^\s;&|)]*)")
_TABLE_ENDINGS = frozenset(["", "txt", "dat", "data", "asc", "text", "log", "lst"])
_TABLE_LINES = 100


@dataclass(frozen=True)
class CodeFile:
    """One file: its path in the code folder, bytes, `sha256:...`, and whether it may be executed."""

    path: str
    size: int
    digest: str
    executable: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The code of one experiment as every run of it gets it, in the order of the paths' bytes."""

    files: tuple[CodeFile, ...] = ()

    @cached_property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def digest(self) -> str:
        """The digest of the code for identities: names, contents, and which are executable."""
        return tree_digest(
            (file.path + (EXECUTABLE_SUFFIX if file.executable else ""), file.digest) for file in self.files
        )


def ending(path: str) -> str:
    """What follows the last dot of the name, in small letters."""
    stem, _, last = path.rpartition("/")[2].rpartition(".")
    return last.lower() if stem else ""


@lru_cache
def programs(command: str) -> frozenset[str]:
    """The files that a command has Python run, whatever their names end with."""
    return frozenset(found[1].strip("'\"").removeprefix("./") for found in _PROGRAM.finditer(command))


def kind_by_name(path: str, run: frozenset[str] = frozenset()) -> str:
    """How a file is looked through: `python`, `shell`, `notebook`, or `plain`, whose content tells more."""
    last = ending(path)
    if last in ("py", "pyw") or path in run:
        return "python"
    if last in ("sh", "bash", "zsh", "ksh") or path.rpartition("/")[2] in ("Makefile", "makefile"):
        return "shell"
    return "notebook" if last == "ipynb" else "plain"


def kind_by_content(data: bytes) -> str:
    """`python` or `shell` by the first line, else `plain`."""
    found = _SHEBANG.match(data)
    name = found[1].decode().lower() if found else ""
    if name.startswith(("python", "pypy")):
        return "python"
    return "shell" if name in ("sh", "bash", "zsh", "dash", "ksh", "ash") else "plain"


def check_name(file: CodeFile, limit: int) -> Iterator[tuple[Code, str]]:
    """What a file's name and size say; `limit` is limits.codeSize in bytes."""
    name, last = file.path.rpartition("/")[2].lower(), ending(file.path)
    if _SECRET.fullmatch(name):
        yield codes.SECRET_IN_CODE, "by its name the file holds a credential"
    elif last in _DATA_ENDINGS:
        yield codes.DATA_IN_CODE, f"by its name the file is {_DATA_ENDINGS[last]}"
    elif last in _COMPILED:
        yield codes.COMPILED, "by its name the file is compiled code or a package"
    elif last in _OTHER:
        yield codes.OTHER_LANGUAGE, f"nothing looks through files that end with .{last}"
    if file.size > limit // SHARE:
        yield (
            codes.FILE_TOO_LARGE,
            f"it has {human_bytes(file.size)}, and {human_bytes(limit // SHARE)} are allowed",
        )


def check_total(snapshot: Snapshot, limit: int) -> Iterator[tuple[Code, str]]:
    """Whether all files together are small enough."""
    if snapshot.bytes > limit:
        have, may = human_bytes(snapshot.bytes), human_bytes(limit)
        yield codes.CODE_TOO_LARGE, f"the code's {len(snapshot.files)} files have {have}, and {may} are allowed"


def check_content(data: bytes, last: str = "") -> Iterator[tuple[Code, str]]:
    """What a file's bytes say, whatever it is called; `last` is the ending of its name."""
    if _PRIVATE_KEY.search(data[:HEAD]):
        yield codes.SECRET_IN_CODE, "the file holds a private key"
    if data.startswith(_BINARIES):
        yield codes.COMPILED, "by its content the file is compiled code"
    for at, magic, what in _MAGIC:
        if data.startswith(magic, at):
            yield codes.DATA_IN_CODE, f"by its content the file is {what}"
            return
    if _PICKLE.match(data) and data.endswith(b"."):
        yield codes.DATA_IN_CODE, "by its content the file is a dump of Python objects"
    elif last in _TABLE_ENDINGS and _is_table(data):
        yield codes.DATA_IN_CODE, "by its content the file is a table"


def _is_table(data: bytes) -> bool:
    """Whether nearly all of many lines have the same number of fields, three or more."""
    lines = [line for line in data[: 16 * HEAD].split(b"\n")[:1000] if line.strip()]
    if len(lines) < _TABLE_LINES:
        return False
    for mark in (b",", b"\t", b";", b"|"):
        counts = [line.count(mark) for line in lines]
        usual = max(set(counts), key=counts.count)
        if usual >= 2 and counts.count(usual) >= 0.95 * len(counts):
            return True
    return False
