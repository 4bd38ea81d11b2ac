"""Attempts with models and images: metadata, unknown fields, operators, bombs, what can't be opened."""
# ruff: noqa: E501 - scripts, as people write them

from __future__ import annotations

from .attempt import Attempt

ATTEMPTS = [
    Attempt(
        "metadata of an ONNX model",
        '(model / "m.onnx").write_bytes(onnx(more=field(14, field(1, "author") + field(2, some))))',
    ),
    Attempt("doc string of an ONNX model", '(model / "m.onnx").write_bytes(onnx(more=field(6, some)))'),
    Attempt("doc string of an ONNX node", '(model / "m.onnx").write_bytes(onnx(node=field(6, some)))'),
    Attempt(
        "metadata of an ONNX model, packed and in base64",
        'import base64, zlib\npacked = base64.b64encode(zlib.compress(some.encode()))\n'
        '(model / "m.onnx").write_bytes(onnx(more=field(14, field(1, "licence") + field(2, packed))))',
    ),
    Attempt(
        "ONNX initialiser, raw",
        """
        flat = sum(numbers[:40], [])
        tensor = field(1, 40) + field(1, 6) + field(2, 1) + field(8, "w") + field(9, struct.pack(f"<{len(flat)}f", *flat))
        (model / "m.onnx").write_bytes(onnx(graph=field(5, tensor)))
        """,
    ),
    Attempt(
        "ONNX initialiser, as a list of numbers",
        """
        flat = sum(numbers[:40], [])
        tensor = field(1, len(flat)) + field(2, 1) + field(8, "w") + field(4, struct.pack(f"<{len(flat)}f", *flat))
        (model / "m.onnx").write_bytes(onnx(graph=field(5, tensor)))
        """,
    ),
    Attempt(
        "ONNX initialiser of texts",
        """
        tensor = field(1, 9) + field(2, 8) + b"".join(field(6, ",".join(row)) for row in rows[:9])
        (model / "m.onnx").write_bytes(onnx(graph=field(5, tensor)))
        """,
    ),
    Attempt(
        "names of ONNX tensors",
        """
        tensors = b"".join(field(5, field(8, "-".join(row)) + field(2, 1)) for row in rows[:10])
        (model / "m.onnx").write_bytes(onnx(graph=tensors))
        """,
    ),
    Attempt("a field that ONNX does not know", '(model / "m.onnx").write_bytes(onnx(more=field(99, some)))'),
    Attempt(
        "an attribute of an ONNX operator",
        """
        values = struct.pack(f"<{6 * 30}f", *sum(numbers[:30], []))
        (model / "m.onnx").write_bytes(onnx(node=field(5, field(1, "value") + field(7, values) + field(20, 6))))
        """,
    ),
    Attempt(
        "ONNX with a custom operator",
        '(model / "m.onnx").write_bytes(onnx(node=field(7, "com.example")))',
        by="E704",
    ),
    Attempt(
        "ONNX with external data",
        """
        tensor = field(1, 4) + field(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, "m.bin"))
        (model / "m.onnx").write_bytes(onnx(graph=field(5, tensor + field(14, 1))))
        """,
        by="E703",
    ),
    Attempt(
        "an ONNX model that is none",
        '(model / "m.onnx").write_bytes(os.urandom(4000))',
        by="E707",
    ),
    Attempt(
        "labels of an image",
        """
        import zlib
        def chunk(kind, content):
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
        image = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"tEXt", b"Title\\0" + some.encode())
        (model / "curve.png").write_bytes(image + chunk(b"IDAT", zlib.compress(b"\\0\\0")) + chunk(b"IEND", b""))
        """,
    ),
    Attempt(
        "packed labels of an image",
        """
        import zlib
        def chunk(kind, content):
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
        packed = b"Title\\0\\0" + zlib.compress(some.encode())
        image = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"zTXt", packed)
        (model / "curve.png").write_bytes(image + chunk(b"IDAT", zlib.compress(b"\\0\\0")) + chunk(b"IEND", b""))
        """,
    ),
    Attempt(
        "rows as the pixels of an image",
        """
        import zlib
        def chunk(kind, content):
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        head = struct.pack(">IIBBBBB", len(some), 1, 8, 0, 0, 0, 0)
        packed = zlib.compress(b"\\0" + some.encode())
        image = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed[:99]) + chunk(b"IDAT", packed[99:])
        (model / "curve.png").write_bytes(image + chunk(b"IEND", b""))
        """,
    ),
    Attempt("labels of a drawing", '(model / "c.svg").write_text("<svg>" + "".join(f"<text>{c}</text>" for r in rows[:9] for c in r) + "</svg>")'),
    Attempt("copy of an image", '(model / "m.jpg").write_bytes((data / "scan.jpg").read_bytes())', by="E702"),
    Attempt(
        "a piece of an image within weights",
        'image = (data / "scan.jpg").read_bytes()\n(model / "m").write_bytes(os.urandom(7001) + image[12345:15345] + os.urandom(99))',
        by="E702",
    ),
    Attempt(
        "a piece of an image in base64",
        'import base64\n(model / "m").write_bytes(base64.b64encode((data / "scan.jpg").read_bytes()[12345:16345]))',
        by="E702",
    ),
    Attempt("an image, reversed", '(model / "m").write_bytes((data / "scan.jpg").read_bytes()[::-1])', by="E702"),
    Attempt(
        "a zip bomb",
        'import zipfile\nwith zipfile.ZipFile(model / "m.zip", "w", 8) as z:\n'
        '    with z.open("a", "w", force_zip64=True) as f:\n        for n in range(300): f.write(bytes(2**20))',
        by="E708",
    ),
    Attempt(
        "archives within archives",
        """
        import io, zipfile
        content = some.encode()
        for n in range(12):
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as z: z.writestr("a", content)
            content = packed.getvalue()
        (model / "m.zip").write_bytes(content)
        """,
        by="E708",
    ),
    Attempt(
        "a pickle that would call a program",
        """
        import pickle
        class Bomb:
            def __reduce__(self): return (os.system, ("touch /tmp/called",))
        (model / "m.pkl").write_bytes(pickle.dumps([Bomb(), rows[:9]]))
        """,
    ),
    Attempt(
        "an encrypted archive",
        """
        import io, zipfile
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as z: z.writestr("a", some)
        content = bytearray(packed.getvalue())
        content[6] |= 1
        content[content.index(b"PK\\1\\2") + 8] |= 1
        (model / "m.zip").write_bytes(content)
        """,
        by="E701, E707",
    ),
    Attempt(
        "an archive of a kind that can't be opened",
        '(model / "m").write_bytes(b"7z\\xbc\\xaf\\x27\\x1c" + os.urandom(3000))',
        by="E707",
    ),
    Attempt(
        "an array that is none",
        '(model / "m.npy").write_bytes(os.urandom(3000))',
        by="E707",
    ),
]  # fmt: skip
