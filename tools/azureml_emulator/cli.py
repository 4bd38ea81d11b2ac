"""`azureml-emulator up|log`. Imports no more than click before a command runs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azureml_emulator.options import Options
from azureml_emulator.requestlog import NAME

if TYPE_CHECKING:
    from azureml_emulator.server import RunningEmulator

PAUSE = 0.3
NEWEST = 50
_DEFAULTS = Options(Path())


def default_folder() -> Path:
    """Where the data lies unless said: as XDG has it."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "azureml-emulator"


_folder = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The data folder; else azureml-emulator in the user's data folder.",
)
_format = click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the answer is written.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """A stand-in for the Azure Machine Learning service, on this machine."""


def _mapped(context: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    hosts = {}
    for each in given:
        resource, equals, host = each.rpartition("=")
        if not equals or not resource.startswith("/subscriptions/") or not host:
            raise click.BadParameter(f"{each!r} is not RESOURCE_ID=HOST:PORT", context, param)
        hosts[resource] = host
    return hosts


@app.command()
@_folder
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the service; kept once chosen.")
@click.option("--proxy-port", type=click.IntRange(0, 65535), default=0, help="Port of the proxy; kept once chosen.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="RESOURCE_ID=HOST:PORT",
    callback=_mapped,
    help="The machine that stands for the VM with this resource id. May be given more than once.",
)
@click.option(
    "--attach-by-address",
    type=click.Choice(["refuse", "allow"]),
    default=_DEFAULTS.attach_by_address,
    show_default=True,
    help="What the service does with a VM that is attached by its address.",
)
@click.option("--lax", is_flag=True, help="Do not enforce names, limits and immutable properties.")
@click.option("--lag", type=float, default=0.0, help="Seconds that a write stays unseen by queries and lists.")
@click.option("--slow", type=float, default=0.0, help="Seconds that each state of runs and attachments lasts.")
@click.option(
    "--throttle", type=click.IntRange(0), default=0, help="Answer 429 to every n-th request (503 of blobs)."
)
@click.option("--page-size", type=click.IntRange(1), default=_DEFAULTS.page_size, help="Entries of a list at once.")
@click.option("--token-life", type=float, default=_DEFAULTS.token_life, help="Seconds that tokens live.")
@click.option("--sas-life", type=float, default=_DEFAULTS.sas_life, help="Seconds that signed addresses live.")
@click.option("--onward", is_flag=True, help="Let the proxy lead on to hosts that are not the service's.")
@click.option("--registry", default="", metavar="URL", help="A Docker distribution registry to serve as the ACR.")
@click.option("--python", default="", metavar="PATH", help="The interpreter of runs on Kubernetes targets.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Where built environments stay.")
@click.option("--patience", type=float, default=_DEFAULTS.patience, help="Seconds a machine may be out of reach.")
@click.option("--subscription", default=_DEFAULTS.subscription, help="Id of the subscription.")
@click.option("--group", default=_DEFAULTS.group, show_default=True, help="Name of the resource group.")
@click.option("--workspace", default=_DEFAULTS.workspace, show_default=True, help="Name of the workspace.")
@click.option("--tenant", default=_DEFAULTS.tenant, help="Id of the tenant.")
@click.option("--region", default=_DEFAULTS.region, show_default=True, help="The workspace's region.")
@click.option("--storage", default=_DEFAULTS.storage, show_default=True, help="Name of its storage account.")
@click.option("--acr", default=_DEFAULTS.acr, show_default=True, help="Name of its registry.")
@_format
def up(folder: Path | None, format: str, lax: bool, **chosen: Any) -> None:
    """Start the emulator, and run until it is stopped.

    Prints what a client's environment needs, for the service's own host names through a proxy (A) and for a cloud
    of its own (B), and the applications that may sign in. What it remembers is kept in the data folder.
    Ctrl-C or SIGTERM stops it, with exit code 0.
    """
    from azureml_emulator.server import FolderInUse, start

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    place = (folder or default_folder()).absolute()
    try:
        running = start(Options(folder=place, strict=not lax, **chosen))
    except FolderInUse as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"cannot listen: {error.strerror or error}; choose another --port or --proxy-port, or leave them out"
        ) from None
    with running:
        told = described(running)
        click.echo(json.dumps(told, indent=2) if format == "json" else _lines(told))
        stopped.wait()
    click.echo(f"stopped; what it remembers is kept in {place}", err=True)


def described(running: RunningEmulator) -> dict[str, Any]:
    """Everything that one needs to talk to it, secrets included."""
    from azureml_emulator.settings import TOPOLOGIES, identity

    emulator = running.emulator
    owner, reader = (running.principal(name) for name in ("owner", "reader"))
    issuer = f"{running.url}/_emulator/github/token?api-version=2.0"
    return {
        "url": running.url,
        "proxy": running.proxy_url,
        "folder": str(running.folder),
        "controlKey": emulator.control_key,
        "workspace": identity(emulator),
        "principals": [
            {key: who[key] for key in ("name", "role", "clientId", "clientSecret")} for who in (owner, reader)
        ],
        "github": {
            "ACTIONS_ID_TOKEN_REQUEST_URL": issuer,
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": emulator.control_key,
        },
        "environment": {topology: running.environment(topology) for topology in TOPOLOGIES},
    }


def _lines(told: Mapping[str, Any]) -> str:
    """The same as lines for a shell; of A and B one takes one."""
    lines = [f"# {told['url']}, proxy {told['proxy']}, data in {told['folder']}", "", "# the workspace"]
    lines += _exports(told["workspace"])
    for who in told["principals"]:
        lines += ["", f"# sign in as {who['name']} ({who['role']})"]
        lines += _exports({"AZURE_CLIENT_ID": who["clientId"], "AZURE_CLIENT_SECRET": who["clientSecret"]})
    lines += ["", "# sign in as owner by a job's token, as on GitHub", *_exports(told["github"])]
    lines += ["", "# A: the service's own host names, through the proxy", *_exports(told["environment"]["A"])]
    lines += ["", "# B: a cloud of its own", *_exports(told["environment"]["B"])]
    return "\n".join([*lines, "", "# stop it with Ctrl-C or SIGTERM"])


def _exports(values: Mapping[str, str]) -> list[str]:
    from shlex import quote

    return [f"export {name}={quote(value)}" for name, value in values.items()]


@app.command()
@_folder
@click.option("--count", "-n", type=click.IntRange(0), default=NEWEST, show_default=True, help="How many, newest.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option("--failed", is_flag=True, help="Only what was refused, failed, or has no route.")
@_format
def log(folder: Path | None, count: int, follow: bool, failed: bool, format: str) -> None:
    """Show the requests. The log has no secrets."""
    path = (folder or default_folder()) / NAME
    if not path.is_file():
        raise click.ClickException(
            f"no request was logged in {path.parent}: start one with `up`, or give its --folder"
        )
    with path.open(encoding="utf-8") as source:
        entries = [entry for entry in _entries(source) if not failed or _bad(entry)]
        for entry in entries[max(0, len(entries) - count) :]:
            click.echo(_shown(entry, format))
        pause = threading.Event()
        while follow:
            for entry in _entries(source):
                if not failed or _bad(entry):
                    click.echo(_shown(entry, format))
            pause.wait(PAUSE)


def _entries(source: Any) -> Iterator[dict[str, Any]]:
    """Whole lines; of a half one the rest is read the next time."""
    while True:
        start = source.tell()
        line = source.readline()
        if not line.endswith("\n"):
            source.seek(start)
            return
        yield json.loads(line)


def _bad(entry: Mapping[str, Any]) -> bool:
    return "refused" in entry or not entry["route"] or not 100 <= entry["status"] < 400


def _shown(entry: Mapping[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(entry)
    time = str(entry["time"])[11:23]
    if "refused" in entry:
        return f"{time}  proxy refused {entry['refused']}"
    notes = "" if entry["route"] else "  no route"
    if "fault" in entry:
        notes += f"  fault {entry['fault']}"
    query = "&".join(f"{key}={value}" for key, value in entry["query"].items() if key != "api-version")
    path = f"{entry['path']}?{query}" if query else entry["path"]
    status = entry["status"] or "cut"
    return f"{time}  {status}  {entry['method']:6} {entry['host']}{path}  {entry['milliseconds']} ms{notes}"
