"""Attempts with text: copies, archives, encodings, disguises."""
# ruff: noqa: E501 - scripts, as people write them

from __future__ import annotations

from .attempt import OPEN, Attempt

ATTEMPTS = [
    Attempt("plain copy of the table", '(model / "weights.bin").write_text(text)', by="E701, E702, E705"),
    Attempt("ten rows in a text file", '(model / "notes.txt").write_text("notes\\n" + some)'),
    Attempt("one row in a text file", '(model / "notes.txt").write_text("best: " + ",".join(rows[9]))'),
    Attempt("one row as a sentence", '(model / "notes.txt").write_text("the patient " + " and ".join(rows[9]))'),
    Attempt(
        "rows as JSON with names of fields",
        'names = text.splitlines()[0].split(",")\n'
        '(model / "card.json").write_text(json.dumps([dict(zip(names, row)) for row in rows[20:30]]))',
    ),
    Attempt(
        "rows as JSON with other names of fields",
        '(model / "card.json").write_text(json.dumps([{f"layer{n}": v for n, v in enumerate(row)} for row in rows[20:30]]))',
    ),
    Attempt("zip", 'import zipfile\nwith zipfile.ZipFile(model / "m.zip", "w", 8) as z: z.writestr("a", some)'),
    Attempt(
        "zip with a member that its directory hides",
        """
        import io, zipfile
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as z: z.writestr("a", some)
        clean = io.BytesIO()
        with zipfile.ZipFile(clean, "w") as z: z.writestr("b", "nothing")
        hidden = packed.getvalue().split(b"PK\\1\\2")[0]
        (model / "m.zip").write_bytes(hidden + clean.getvalue())
        """,
        by="E701, E707",
    ),
    Attempt("gzip", 'import gzip\n(model / "m.gz").write_bytes(gzip.compress(some.encode()))'),
    Attempt(
        "gzip in zip",
        'import gzip, zipfile\nwith zipfile.ZipFile(model / "m.zip", "w") as z: z.writestr("a.gz", gzip.compress(some.encode()))',
    ),
    Attempt("bzip2", 'import bz2\n(model / "m").write_bytes(bz2.compress(some.encode()))'),
    Attempt("xz", 'import lzma\n(model / "m").write_bytes(lzma.compress(some.encode()))'),
    Attempt("lzma without a header of xz", 'import lzma\n(model / "m").write_bytes(lzma.compress(some.encode(), lzma.FORMAT_ALONE))'),
    Attempt(
        "deflate without any header",
        'import zlib\nmachine = zlib.compressobj(9, 8, -15)\n(model / "m").write_bytes(machine.compress(some.encode()) + machine.flush())',
    ),
    Attempt(
        "a zlib stream in the middle of weights",
        'import random, zlib\n(model / "m").write_bytes(random.randbytes(9999) + zlib.compress(some.encode()) + random.randbytes(9999))',
    ),
    Attempt(
        "tar",
        'import io, tarfile\nwith tarfile.open(model / "m.tar", "w") as t:\n'
        '    entry = tarfile.TarInfo("a")\n    entry.size = len(some)\n    t.addfile(entry, io.BytesIO(some.encode()))',
    ),
    Attempt("base64", 'import base64\n(model / "m").write_bytes(base64.b64encode(some.encode()))'),
    Attempt(
        "base64 for addresses, wrapped, within other text",
        """
        import base64, textwrap
        packed = base64.urlsafe_b64encode(b"xx" + some.encode()).decode()
        (model / "m").write_text('{"weights": "' + "\\\\n".join(textwrap.wrap(packed, 60)) + '"}')
        (model / "n").write_text("key: " + "\\n ".join(textwrap.wrap(packed, 60)))
        """,
    ),
    Attempt(
        "base64, each line by itself",
        'import base64\n(model / "m").write_text("\\n".join(base64.b64encode(",".join(row).encode()).decode() for row in rows[20:30]))',
    ),
    Attempt("base64 of gzip", 'import base64, gzip\n(model / "m").write_bytes(base64.b64encode(gzip.compress(some.encode())))'),
    Attempt("hex", '(model / "m").write_text(some.encode().hex())'),
    Attempt("hex with signs between", '(model / "m").write_text(some.encode().hex(":"))'),
    Attempt("base32", 'import base64\n(model / "m").write_bytes(base64.b32encode(some.encode()))'),
    Attempt("base85", 'import base64\n(model / "m").write_bytes(base64.b85encode(some.encode()))'),
    Attempt("reversed", '(model / "m").write_text(some[::-1])'),
    Attempt("each line reversed", '(model / "m").write_text("\\n".join(line[::-1] for line in some.splitlines()))'),
    Attempt("letters turned by 13", 'import codecs\n(model / "m").write_text(codecs.encode(some, "rot13"))'),
    Attempt("capital letters, other separators", '(model / "m").write_text(some.upper().replace(",", " | "))'),
    Attempt("UTF-16", '(model / "m").write_bytes(some.encode("utf-16-le"))'),
    Attempt("UTF-32", '(model / "m").write_bytes(some.encode("utf-32"))'),
    Attempt(
        "letters of full width",
        '(model / "m").write_text("".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in some), encoding="utf-8")',
    ),
    Attempt("signs that nobody sees between letters", '(model / "m").write_text("\\u200b".join(some), encoding="utf-8")'),
    Attempt("accents on the letters", '(model / "m").write_text("".join(c + "\\u0301" if c.isalpha() else c for c in some), encoding="utf-8")'),
    Attempt("JSON escapes", '(model / "m").write_text("".join(f"\\\\u{ord(c):04x}" for c in some))'),
    Attempt("percent signs", '(model / "m").write_text("".join(f"%{ord(c):02x}" for c in some))'),
    Attempt("HTML entities", '(model / "m").write_text("".join(f"&#{ord(c)};" for c in some))'),
    Attempt("a list of byte values", '(model / "m.json").write_text(json.dumps(list(some.encode())))'),
    Attempt("bits", '(model / "m").write_text("".join(f"{byte:08b}" for byte in some.encode()))'),
    Attempt("names of people, sorted", '(model / "vocabulary.txt").write_text("\\n".join(sorted({row[2] for row in rows})))', by="E705"),
    Attempt("rows as names of files", 'for row in rows[:5]: (model / "-".join(row)).write_text("x")'),
    Attempt("rows as names of folders", 'deep = model\nfor row in rows[:6]: deep = deep / "_".join(row)\ndeep.mkdir(parents=True)\n(deep / "m").write_text("x")'),
    Attempt(
        "encryption",
        """
        import hashlib
        secret = some.encode()
        key = b"".join(hashlib.sha256(b"key%d" % n).digest() for n in range(len(secret) // 32 + 1))
        (model / "m").write_bytes(bytes(a ^ b for a, b in zip(secret, key)))
        """,
        OPEN,
        "encrypted bytes look like weights. Review of the script finds it; nothing else can",
    ),
    Attempt(
        "a secret alphabet",
        'turn = str.maketrans("abcdefghijklmnopqrstuvwxyz0123456789", "qwertyuiopasdfghjklzxcvbnm3141592650"[:36])\n'
        '(model / "m").write_text(some.translate(turn))',
        OPEN,
        "a substitution is a cipher",
    ),
    Attempt(
        "one value",
        '(model / "m").write_text("threshold " + rows[3][7])',
        OPEN,
        "one value alone tells less than the bound; models hold such values by right",
    ),
]  # fmt: skip
