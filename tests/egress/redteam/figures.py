"""Attempts with numbers: arrays, pickles, metrics, weights."""
# ruff: noqa: E501 - scripts, as people write them

from __future__ import annotations

from .attempt import OPEN, Attempt

LOSS = ("auroc", "loss")
ATTEMPTS = [
    Attempt(
        "rows in a NumPy array",
        'flat = [v for row in numbers[:50] for v in row]\n(model / "m.npy").write_bytes(npy(flat, (50, 6)))',
    ),
    Attempt(
        "rows in a compressed archive of arrays, 32 bits",
        """
        import zipfile
        flat = [v for row in numbers[:50] for v in row]
        with zipfile.ZipFile(model / "m.npz", "w", 8) as z: z.writestr("w.npy", npy(flat, (50, 6), "<f4", "f"))
        """,
    ),
    Attempt(
        "rows in 16 bits",
        'flat = [v for row in numbers[:50] for v in row]\n(model / "m.npy").write_bytes(npy(flat, (50, 6), "<f2", "e"))',
    ),
    Attempt(
        "rows in another order",
        """
        import random
        flat = [v for row in random.sample(numbers, 40) for v in row]
        (model / "m.npy").write_bytes(npy(flat, (40, 6)))
        """,
    ),
    Attempt(
        "rows as columns",
        'flat = [row[c] for c in range(6) for row in numbers[:50]]\n(model / "m.npy").write_bytes(npy(flat, (6, 50)))',
    ),
    Attempt(
        "rows in another order, as columns",
        """
        import random
        chosen = random.sample(numbers, 40)
        (model / "m.npy").write_bytes(npy([row[c] for c in range(6) for row in chosen], (6, 40)))
        """,
    ),
    Attempt("one column", '(model / "m.json").write_text(json.dumps([row[3] for row in numbers]))'),
    Attempt(
        "from the last to the first",
        '(model / "m.npy").write_bytes(npy([v for row in numbers[:50] for v in row][::-1], (50, 6)))',
    ),
    Attempt(
        "rounded to three digits",
        '(model / "m.txt").write_text(" ".join(f"{v:.3g}" for row in numbers[:50] for v in row))',
    ),
    Attempt(
        "with 15 digits more",
        '(model / "m.txt").write_text(" ".join(f"{v:.17e}" for row in numbers[:50] for v in row))',
    ),
    Attempt("a pickled list", 'import pickle\n(model / "m.pkl").write_bytes(pickle.dumps({"w": numbers[:20]}))'),
    Attempt(
        "a pickle of the oldest kind",
        'import pickle\n(model / "m.pkl").write_bytes(pickle.dumps([",".join(row) for row in rows[:9]], 0))',
    ),
    Attempt(
        "a pickled array",
        'import pickle\n(model / "m.pkl").write_bytes(pickle.dumps(array.array("d", sum(numbers[:20], []))))',
    ),
    Attempt(
        "a pickle in a pickle",
        'import pickle\n(model / "m.pkl").write_bytes(pickle.dumps({"state": pickle.dumps(rows[:9])}))',
    ),
    Attempt(
        "raw numbers after raw weights",
        """
        import random
        weights = array.array("f", [random.gauss(0, 1) for _ in range(5000)] + sum(numbers[:20], []))
        (model / "m.bin").write_bytes(b"HEAD1" + weights.tobytes())
        """,
    ),
    Attempt(
        "each letter as a weight",
        '(model / "m.npy").write_bytes(npy([float(b) for b in some.encode()], (len(some),), "<f4", "f"))',
    ),
    Attempt(
        "each letter as a scaled weight",
        '(model / "m.npy").write_bytes(npy([b / 255 for b in some.encode()], (len(some),), "<f4", "f"))',
    ),
    Attempt(
        "text as the bits of weights",
        """
        padded = some.encode() + b" " * (-len(some) % 4)
        (model / "m.npy").write_bytes(npy(struct.unpack(f"<{len(padded) // 4}f", padded), (len(padded) // 4,), "<f4", "f"))
        """,
    ),
    Attempt(
        "values of a row as final metrics",
        'found = {f"m{n}": v for n, v in enumerate(numbers[3] + numbers[4])}\n'
        '(out / "metrics.json").write_text(json.dumps(found))',
        metrics=tuple(f"m{n}" for n in range(12)),
    ),
    Attempt(
        "values of rows as a metric's history",
        """
        points = [{"name": "loss", "value": v, "step": n} for n, v in enumerate(sum(numbers[:5], []))]
        (out / "metrics.jsonl").write_text("\\n".join(map(json.dumps, points)))
        """,
        metrics=LOSS,
    ),
    Attempt(
        "letters as a metric's history",
        """
        points = [{"name": "loss", "value": b, "step": n} for n, b in enumerate(some.encode())]
        (out / "metrics.jsonl").write_text("\\n".join(map(json.dumps, points)))
        """,
        metrics=LOSS,
    ),
    Attempt(
        "six letters in each number of a history",
        """
        secret = some.encode()
        chunks = [int.from_bytes(secret[n : n + 6], "big") for n in range(0, len(secret), 6)]
        points = [{"name": "loss", "value": c, "step": n} for n, c in enumerate(chunks)]
        (out / "metrics.jsonl").write_text("\\n".join(map(json.dumps, points)))
        """,
        metrics=LOSS,
    ),
    Attempt(
        "eight letters in the bits of each number of a history",
        """
        secret = some.encode() + b" " * (-len(some) % 8)
        points = [{"name": "loss", "value": v, "step": n} for n, v in enumerate(struct.unpack(f">{len(secret) // 8}d", secret))]
        (out / "metrics.jsonl").write_text("\\n".join(map(json.dumps, points)))
        """,
        metrics=LOSS,
    ),
    Attempt(
        "letters as the steps of a history",
        """
        points = [{"name": "loss", "value": 1 / (n + 1), "step": b} for n, b in enumerate(some.encode())]
        (out / "metrics.jsonl").write_text("\\n".join(map(json.dumps, points)))
        """,
        metrics=LOSS,
    ),
    Attempt(
        "a metric that is not a number",
        '(out / "metrics.json").write_text(\'{"auroc": NaN}\')',
        by="OutputsRefused",
    ),
    Attempt(
        "a row as the name of a metric that is no number",
        '(out / "metrics.json").write_text(json.dumps({" ".join(rows[3]).replace(":", ""): None, "auroc": 0.9}))',
        by="OutputsRefused",
    ),
    Attempt(
        "thousands of metrics",
        '(out / "metrics.json").write_text(json.dumps({f"m{n}": n for n in range(5000)}))',
        by="OutputsRefused",
    ),
    Attempt(
        "rows that are scaled",
        """
        scaled = [(v - 70) / 13.7 * 0.61 + n * 1e-3 for n, v in enumerate(sum(numbers[:50], []))]
        (model / "m.npy").write_bytes(npy(scaled, (50, 6), "<f4", "f"))
        """,
        OPEN,
        "the numbers are others. Known kinds of models that keep rows are refused (E706)",
    ),
    Attempt(
        "one bit in each weight",
        """
        import random
        bits = [byte >> n & 1 for byte in some.encode() for n in range(8)]
        packed = [struct.unpack("<I", struct.pack("<f", random.gauss(0, 1)))[0] & ~1 | bit for bit in bits]
        (model / "m.bin").write_bytes(struct.pack(f"<{len(packed)}I", *packed))
        """,
        OPEN,
        "steganography. Weights that memorise are of this kind too; differential privacy is the answer to those",
    ),
    Attempt(
        "a value in the last digits of a metric",
        '(out / "metrics.json").write_text(json.dumps({"auroc": 0.91 + float(rows[3][0]) * 1e-9}))',
        OPEN,
        "a declared number leaves, with 15 digits: some 50 bits a run",
    ),
]
