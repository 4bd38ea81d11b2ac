"""What the executor asks of the machine of a compute target: `agent.py ROOT VERB [ARGUMENT...]`.

Each verb may be asked again: it does what is not done yet. Answers are JSON on standard output, but for `read` and
`pack`, which give bytes. All lies in ROOT: `environments/<digest>/`, and `runs/<name>/` with `code` (the working
folder), `setup` (ours), `output` (what the program says), `started.json`, `stop` (asked to) and `ended.json`.
The program's parent is a process of its own session here, which neither a lost connection nor the emulator ends.
"""

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time

CHUNK = 2**18
MOST_FILES = 20000
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


class Agent:
    """The verbs, one method each."""

    def __init__(self, root):
        self.root = os.path.abspath(os.path.expanduser(root))

    def run_folder(self, name):
        return os.path.join(self.root, "runs", plain(name))

    def environment_folder(self, digest):
        return os.path.join(self.root, "environments", plain(digest))

    # The machine

    def facts(self):
        """What there is: Pythons by minor version, platform, container engine, and the session that asks."""
        own = "%d.%d" % sys.version_info[:2]
        found = {"3.%d" % minor: shutil.which("python3.%d" % minor) for minor in range(8, 20)}
        pythons = {minor: path for minor, path in found.items() if path}
        pythons.setdefault(own, sys.executable)
        engine = next((name for name in ("docker", "podman") if shutil.which(name)), "")
        libc, version = platform.libc_ver()
        return {
            "root": self.root,
            "own": own,
            "executable": sys.executable,
            "pythons": pythons,
            "machine": platform.machine(),
            "libc": version if libc == "glibc" else "",
            "engine": engine,
            "session": session(),
        }

    def release(self, known):
        """End a session of the server's that was ours (`facts` named it) and still holds a port."""
        pid, _, born = known.partition(":")
        if pid.isdigit() and birth(int(pid)) == born:
            os.kill(int(pid), signal.SIGTERM)
            return {"released": True}
        return {"released": False}

    def image(self):
        """Whether the image is here, or could be pulled, and the minor version of its Python."""
        order = json.load(sys.stdin)
        engine, image = order["engine"], order["image"]
        said = b""
        if subprocess.run([engine, "image", "inspect", image], **QUIET).returncode != 0:
            said = self.pull(engine, order)
            if said:
                return {"present": False, "said": said[-500:].decode("utf-8", "replace")}
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        command = [engine, "run", "--rm", "--network=none", "--entrypoint", "python3", image, "-c", ask]
        done = subprocess.run(command, **QUIET)
        return {"present": True, "python": done.stdout.decode().strip() if done.returncode == 0 else ""}

    def pull(self, engine, order):
        """Nothing if it was pulled, else what the engine said. A password goes by a file that is gone after."""
        folder = os.path.join(self.root, ".login-%d" % os.getpid())
        os.makedirs(folder, mode=0o700)
        environ = dict(os.environ, DOCKER_CONFIG=folder, REGISTRY_AUTH_FILE=os.path.join(folder, "config.json"))
        try:
            if order.get("username"):
                login = [engine, "login", "--username", order["username"], "--password-stdin", order["address"]]
                word = order["password"].encode()
                done = subprocess.run(
                    login, input=word, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
                )
                if done.returncode != 0:
                    return done.stdout
                command = [engine, "pull", "--quiet", order["image"]]
                done = subprocess.run(command, env=environ, **QUIET)
            else:
                done = subprocess.run([engine, "pull", "--quiet", order["image"]], **QUIET)
            return done.stdout or b"pull failed" if done.returncode != 0 else b""
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # What is brought

    def has(self, digest):
        """Whether the environment is here."""
        return {"has": os.path.isdir(self.environment_folder(digest))}

    def environment(self, digest):
        """Take the environment from standard input, a tar file."""
        self.take(self.environment_folder(digest))
        return {"has": True}

    def prepare(self, name):
        """Take a run's `code` and `setup` from standard input, a tar file."""
        self.take(self.run_folder(name), "code/outputs", "code/logs", "home")
        return {"prepared": True}

    def take(self, folder, *more):
        if os.path.isdir(folder):
            while sys.stdin.buffer.read(CHUNK):
                pass
            return
        # Made beside its place and renamed: a broken connection leaves nothing that looks whole.
        new = "%s.%d.new" % (folder, os.getpid())
        os.makedirs(new, mode=0o700)
        try:
            unpack(sys.stdin.buffer, new)
            for name in more:
                os.makedirs(os.path.join(new, name), exist_ok=True)
            try:
                os.rename(new, folder)
            except OSError:
                if not os.path.isdir(folder):
                    raise
        finally:
            shutil.rmtree(new, ignore_errors=True)

    # The program

    def begin(self, name):
        """Start the program of the order on standard input, unless it was started."""
        order = json.load(sys.stdin)
        run = self.run_folder(name)
        with open(os.path.join(run, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(os.path.join(run, "started.json")):
                near, far = os.pipe()
                if os.fork() == 0:
                    os.close(near)
                    detach(run, order, far)
                os.close(far)
                with os.fdopen(near, "rb") as told:
                    told.read()  # to its end: the parent of the program has written that it is there
        return self.look(name)

    def look(self, name):
        """How the run stands: `absent`, `prepared`, `running`, `ended` or `lost`, and the files that it has made."""
        run = self.run_folder(name)
        # In this order: what ends between the two reads is seen as ended.
        started, ended = read_json(run, "started.json"), None
        alive = bool(started) and birth(started["pid"]) == started["born"]
        ended = read_json(run, "ended.json")
        state = "ended" if ended else "running" if alive else "lost" if started else "prepared"
        if not os.path.isdir(run):
            state = "absent"
        return dict(ended or {}, state=state, output=size(os.path.join(run, "output")), files=dict(files(run)))

    def read(self, name, path, start):
        """A file of the run from a byte on."""
        run = self.run_folder(name)
        place = os.path.join(run, path)
        if os.path.realpath(place) != os.path.join(os.path.realpath(run), path):
            raise SystemExit("not a file of the run")
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            file.seek(int(start))
            shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)

    def pack(self, name):
        """What the run has made below `outputs` and `logs`, as a tar file."""
        run = self.run_folder(name)
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path, _ in sorted(files(run)):
                archive.add(os.path.join(run, "code", path), arcname=path, recursive=False)

    def stop(self, name):
        """Ask for the program's end."""
        with open(os.path.join(self.run_folder(name), "stop"), "w"):
            pass
        return {"asked": True}

    def remove(self, name):
        """Remove the run's folder, its program having ended."""
        if self.look(name)["state"] == "running":
            return {"removed": False}
        shutil.rmtree(self.run_folder(name), ignore_errors=True)
        return {"removed": True}


def plain(name):
    """The name, which is that of one file. Raises SystemExit."""
    if not name or name.startswith(".") or "/" in name:
        raise SystemExit("not a name: %r" % name)
    return name


def unpack(stream, folder):
    """Take regular files and folders, and nothing that leads out of the folder."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for entry in archive:
            path = os.path.normpath(entry.name)
            if path.startswith(("/", "..")) or not (entry.isfile() or entry.isdir()):
                raise SystemExit("not taken: %r" % entry.name)
            place = os.path.join(folder, path)
            if entry.isdir():
                os.makedirs(place, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                shutil.copyfileobj(archive.extractfile(entry), file, CHUNK)
            os.chmod(place, 0o755 if entry.mode & 0o100 else 0o644)


def files(run):
    """Path (`outputs/...` or `logs/...`) and size of each regular file there; links are not followed."""
    count = 0
    for top in ("outputs", "logs"):
        for folder, _, names in os.walk(os.path.join(run, "code", top)):
            for name in names:
                place = os.path.join(folder, name)
                count += 1
                if os.path.isfile(place) and not os.path.islink(place) and count <= MOST_FILES:
                    yield os.path.relpath(place, os.path.join(run, "code")), size(place)


def size(place):
    try:
        return os.stat(place).st_size
    except OSError:
        return 0


def read_json(run, name):
    try:
        with open(os.path.join(run, name)) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write_json(run, name, value):
    new = os.path.join(run, ".%s.new" % name)
    with open(new, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, os.path.join(run, name))


def birth(pid):
    """What tells a process from any other that has or had its number; empty if there is none."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else "%s-%s" % (boot, fields[19])


def session():
    """The server's process that serves this connection, as `pid:birth`, or nothing."""
    pid = os.getppid()
    while pid > 1:
        try:
            with open("/proc/%d/stat" % pid) as file:
                before, _, after = file.read().rpartition(")")
        except OSError:
            break
        if before.partition("(")[2].startswith("sshd"):
            return "%d:%s" % (pid, birth(pid))
        pid = int(after.split()[1])
    return ""


def detach(run, order, told):
    """In the child of `begin`: become a session of its own, write that, start the program and wait. No return."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        write_json(run, "started.json", {"pid": os.getpid(), "born": birth(os.getpid()), "at": time.time()})
        os.close(told)
        # What was inherited, such as the lock and the connection's pipes, is let go of.
        os.closerange(3, 256)
        write_json(run, "ended.json", supervise(run, order))
    except BaseException as error:  # noqa: BLE001 - nobody is there to be told but the file
        write_json(run, "ended.json", {"code": 125, "why": "executor", "message": repr(error)[:500]})
    finally:
        os._exit(0)


def environment(order):
    """What the program gets: of this machine only what names the user and the language."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    found.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    found.update(order["env"])
    if order.get("path"):
        found["PATH"] = order["path"] + ":" + found["PATH"]
    return found


def supervise(run, order):
    """Run the program to its end, or until it is to end: why, and its exit code (negative: a signal's number)."""
    with open(os.path.join(run, "output"), "ab") as output:
        try:
            program = subprocess.Popen(
                order["argv"],
                cwd=os.path.join(run, "code"),
                env=environment(order),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return {"code": 127, "why": "unstartable", "message": "%s: %s" % (order["argv"][0], error.strerror)}
    why, last, kill_at = "exited", time.monotonic() + order["seconds"], None
    while True:
        try:
            code = program.wait(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if kill_at is None:
            if os.path.exists(os.path.join(run, "stop")):
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


def kill(group, number):
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_container(order):
    if order.get("container"):
        subprocess.run([order["engine"], "rm", "--force", order["container"]], **QUIET)


def main():
    """Do the verb of the command line."""
    agent = Agent(sys.argv[1])
    os.umask(0o077)
    os.makedirs(agent.root, mode=0o700, exist_ok=True)
    answer = getattr(agent, sys.argv[2])(*sys.argv[3:])
    if answer is not None:
        json.dump(answer, sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
