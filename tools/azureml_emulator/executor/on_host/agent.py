"""What the executor asks of the machine of a compute target: `agent.py ROOT VERB [ARGUMENT...]`.

Each verb may be asked again: it does what is not done yet. Answers are JSON on standard output, but for `read` and
`pack`, which give bytes. All lies in ROOT: `environments/<digest>/`, and `runs/<name>/` with `code` (the working
folder), `setup` (ours), `output` (what the program says), `started.json`, `stop` (asked to) and `ended.json`.
The program's parent is a process of its own session here, which neither a lost connection nor the emulator ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple  # noqa: UP035 - Python 3.8

Json = Dict[str, Any]  # noqa: UP006
CHUNK = 2**18
MOST_FILES = 20000
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")


class Agent:
    """The verbs, one method each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run_folder(self, name: str) -> Path:
        """Where a run lies."""
        return self.root / "runs" / plain(name)

    def environment_folder(self, digest: str) -> Path:
        """Where an environment lies."""
        return self.root / "environments" / plain(digest)

    # The machine

    def facts(self) -> Json:
        """What there is: Pythons by minor version, platform, container engine, and the session that asks."""
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        found = {f"3.{minor}": shutil.which(f"python3.{minor}") for minor in range(8, 20)}
        pythons = {minor: path for minor, path in found.items() if path}
        pythons.setdefault(own, sys.executable)
        libc, version = platform.libc_ver()
        return {
            "root": str(self.root),
            "own": own,
            "executable": sys.executable,
            "pythons": pythons,
            "machine": platform.machine(),
            "libc": version if libc == "glibc" else "",
            "engine": next((name for name in ("docker", "podman") if shutil.which(name)), ""),
            "session": session(),
        }

    def release(self, known: str) -> Json:
        """End a session of the server's that was ours (`facts` named it) and still holds a port."""
        pid, _, born = known.partition(":")
        if not pid.isdigit() or birth(int(pid)) != born:
            return {"released": False}
        os.kill(int(pid), signal.SIGTERM)
        return {"released": True}

    def image(self) -> Json:
        """Whether the image is here, or could be pulled, and the minor version of its Python."""
        order = json.load(sys.stdin)
        engine, image = order["engine"], order["image"]
        if call([engine, "image", "inspect", image])[0] != 0:
            said = self.pull(order)
            if said:
                return {"present": False, "said": said[-500:].decode("utf-8", "replace")}
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        code, python = call(
            [engine, "run", "--rm", "--network=none", "--entrypoint", "python3", image, "-c", ask], errors=False
        )
        return {"present": True, "python": python.decode().strip() if code == 0 else ""}

    def pull(self, order: Json) -> bytes:
        """Nothing if it was pulled, else what the engine said. A password goes by a file that is gone after."""
        engine, environ = order["engine"], dict(os.environ)
        folder = self.root / f".login-{os.getpid()}"
        folder.mkdir(mode=0o700)
        try:
            if order["username"]:
                environ.update(DOCKER_CONFIG=str(folder), REGISTRY_AUTH_FILE=str(folder / "config.json"))
                login = [engine, "login", "--username", order["username"], "--password-stdin", order["address"]]
                code, said = call(login, order["password"].encode(), environ)
                if code != 0:
                    return said or b"sign-in failed"
            code, said = call([engine, "pull", "--quiet", order["image"]], b"", environ)
            return b"" if code == 0 else said or b"pull failed"
        finally:
            shutil.rmtree(str(folder), ignore_errors=True)

    # What is brought

    def has(self, digest: str) -> Json:
        """Whether the environment is here."""
        return {"has": self.environment_folder(digest).is_dir()}

    def environment(self, digest: str) -> Json:
        """Take the environment from standard input, a tar file."""
        take(self.environment_folder(digest))
        return {"has": True}

    def prepare(self, name: str) -> Json:
        """Take a run's `code` and `setup` from standard input, a tar file."""
        take(self.run_folder(name), "code/outputs", "code/logs", "home")
        return {"prepared": True}

    # The program

    def begin(self, name: str) -> Json:
        """Start the program of the order on standard input, unless it was started."""
        order = json.load(sys.stdin)
        run = self.run_folder(name)
        with (run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (run / "started.json").exists():
                near, far = os.pipe()
                if os.fork() == 0:
                    os.close(near)
                    detach(run, order, far)
                os.close(far)
                with os.fdopen(near, "rb") as told:
                    told.read()  # to its end: the program's parent has written that it is there
        return self.look(name)

    def look(self, name: str) -> Json:
        """How the run stands: `absent`, `prepared`, `running`, `ended` or `lost`; and the files that it made."""
        run = self.run_folder(name)
        if not run.is_dir():
            return {"state": "absent", "output": 0, "files": {}}
        # In this order: one that ends between the two reads has written how before it was gone.
        started = read_json(run / "started.json")
        alive = started is not None and birth(started["pid"]) == started["born"]
        ended = read_json(run / "ended.json")
        state = "ended" if ended else "running" if alive else "lost" if started else "prepared"
        return {**(ended or {}), "state": state, "output": size(run / "output"), "files": dict(files(run))}

    def read(self, name: str, path: str, start: str) -> None:
        """A file of the run from a byte on."""
        run = self.run_folder(name)
        place = run / path
        if Path(path).is_absolute() or place.resolve() != run.resolve() / path:
            raise SystemExit("not a file of the run")
        with os.fdopen(os.open(str(place), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            file.seek(int(start))
            shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)

    def pack(self, name: str) -> None:
        """What the run has made below `outputs` and `logs`, as a tar file."""
        run = self.run_folder(name)
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path, _ in sorted(files(run)):
                archive.add(str(run / "code" / path), arcname=path, recursive=False)

    def stop(self, name: str) -> Json:
        """Ask for the program's end."""
        (self.run_folder(name) / "stop").touch()
        return {"asked": True}

    def remove(self, name: str) -> Json:
        """Remove the run's folder, its program having ended."""
        if self.look(name)["state"] == "running":
            return {"removed": False}
        shutil.rmtree(str(self.run_folder(name)), ignore_errors=True)
        return {"removed": True}


def call(
    command: List[str],  # noqa: UP006
    word: bytes = b"",
    environ: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    *,
    errors: bool = True,
) -> Tuple[int, bytes]:  # noqa: UP006
    """A command's exit code and what it says."""
    to = subprocess.STDOUT if errors else subprocess.DEVNULL
    done = subprocess.run(command, input=word, stdout=subprocess.PIPE, stderr=to, env=environ, check=False)
    return done.returncode, done.stdout


def take(folder: Path, *more: str) -> None:
    """Make the folder of the tar file on standard input, with more empty ones in it, unless it is there."""
    if folder.is_dir():
        while sys.stdin.buffer.read(CHUNK):
            pass
        return
    # Made beside its place and renamed: a broken connection leaves nothing that looks whole.
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=str(folder.parent)))
    try:
        unpack(sys.stdin.buffer, new)
        for name in more:
            (new / name).mkdir(parents=True, exist_ok=True)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody was faster
                raise
    finally:
        shutil.rmtree(str(new), ignore_errors=True)


def plain(name: str) -> str:
    """The name, which is that of one file. Raises SystemExit."""
    if not name or name.startswith(".") or "/" in name:
        raise SystemExit(f"not a name: {name!r}")
    return name


def unpack(stream: IO[bytes], folder: Path) -> None:
    """Take regular files and folders, and nothing that leads out of the folder."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for entry in archive:
            path = os.path.normpath(entry.name)
            content = archive.extractfile(entry) if entry.isfile() else None
            if path.startswith(("/", "..")) or (content is None and not entry.isdir()):
                raise SystemExit(f"not taken: {entry.name!r}")
            place = folder / path
            if content is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(content, file, CHUNK)
            place.chmod(0o755 if entry.mode & 0o100 else 0o644)


def files(run: Path) -> Iterator[Tuple[str, int]]:  # noqa: UP006
    """Path (`outputs/...` or `logs/...`) and size of each regular file there; links are not followed."""
    count, code = 0, run / "code"
    for top in ("outputs", "logs"):
        for folder, _, names in os.walk(str(code / top)):
            for name in names:
                place = Path(folder, name)
                count += 1
                if count <= MOST_FILES and place.is_file() and not place.is_symlink():
                    yield place.relative_to(code).as_posix(), size(place)


def size(place: Path) -> int:
    """In bytes; 0 for what is not there."""
    try:
        return place.stat().st_size
    except OSError:
        return 0


def read_json(place: Path) -> Any:
    """What the file says, None if there is none."""
    try:
        return json.loads(place.read_text())
    except FileNotFoundError:
        return None


def write_json(place: Path, value: Json) -> None:
    """Write a file that is there whole or not at all."""
    new = place.with_suffix(".new")
    with new.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(place)


def birth(pid: int) -> str:
    """What tells a process from any other that has or had its number; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else f"{boot}-{fields[19]}"


def session() -> str:
    """The server's process that serves this connection, as `pid:birth`, or nothing."""
    pid = os.getppid()
    while pid > 1:
        try:
            before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            break
        if before.partition("(")[2].startswith("sshd"):
            return f"{pid}:{birth(pid)}"
        pid = int(after.split()[1])
    return ""


def detach(run: Path, order: Json, told: int) -> None:
    """In the child of `begin`: become a session of its own, write that, start the program and wait. No return."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        write_json(run / "started.json", {"pid": os.getpid(), "born": birth(os.getpid()), "at": time.time()})
        # What was inherited is let go of: the lock, and the pipe by which `begin` waits for this.
        os.close(told)
        os.closerange(3, 256)
        write_json(run / "ended.json", supervise(run, order))
    except BaseException as error:
        # Nobody is there to be told but the file.
        write_json(run / "ended.json", {"code": 125, "why": "executor", "message": repr(error)[:500]})
    finally:
        os._exit(0)


def environment(order: Json) -> Dict[str, str]:  # noqa: UP006
    """What the program gets: of this machine only what names the user and the language."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    found.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    found.update(order["env"])
    if order["path"]:
        found["PATH"] = order["path"] + ":" + found["PATH"]
    return found


def supervise(run: Path, order: Json) -> Json:
    """Run the program to its end, or until it is to end: why, and its exit code (negative: a signal's number)."""
    with (run / "output").open("ab") as output:
        try:
            program = subprocess.Popen(
                order["argv"],
                cwd=str(run / "code"),
                env=environment(order),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return {"code": 127, "why": "unstartable", "message": f"{order['argv'][0]}: {error.strerror}"}
    why, last, kill_at = "exited", time.monotonic() + order["seconds"], 0.0
    while True:
        try:
            code = program.wait(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if why == "exited":
            if (run / "stop").exists():
                why = "canceled"
            elif now > last:
                why = "timeout"
            if why != "exited":
                kill_at = now + order["grace"]
                kill(program.pid, signal.SIGTERM)
        elif now > kill_at:
            end_container(order)
            kill(program.pid, signal.SIGKILL)
    kill(program.pid, signal.SIGKILL)  # what it left in its group
    end_container(order)
    return {"code": code, "why": why}


def kill(group: int, number: int) -> None:
    """Send a signal to a group of processes, if there is any of them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_container(order: Json) -> None:
    """Remove the program's container, if it has one."""
    if order.get("container"):
        call([order["engine"], "rm", "--force", order["container"]])


def main() -> None:
    """Do the verb of the command line."""
    os.umask(0o077)
    root = Path(sys.argv[1]).expanduser().absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    answer = getattr(Agent(root), sys.argv[2])(*sys.argv[3:])
    if answer is not None:
        json.dump(answer, sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
