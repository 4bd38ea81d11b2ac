"""`azureml-emulator record|compare`: what a real workspace says, and where the emulator differs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--into",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for the recording and the recorder's own authority.",
)
@click.option("--proxy-port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; else a free one.")
@click.option("--upstream", default="", metavar="URL", help="A proxy on the way to the service.")
@click.option("--authorities", type=_FILE, help="A PEM file of authorities to trust on the way to the service.")
def record(into: Path, proxy_port: int, upstream: str, authorities: Path | None) -> None:
    """Record what a client and a real workspace say to each other, until stopped.

    Prints the environment that leads a client this way. Secrets, people and ids are not in the recording.
    """
    from shlex import quote

    from azureml_emulator.recorder import Recorder, serve

    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    recorder = Recorder(into.absolute(), upstream, str(authorities) if authorities else "")
    try:
        front = socket.create_server(("127.0.0.1", proxy_port))
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from None

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        for name, value in recorder.environment(front.getsockname()[1]).items():
            click.echo(f"export {name}={quote(value)}")
        click.echo(f"# recording into {recorder.log.path}; stop it with Ctrl-C or SIGTERM")
        await serve(recorder, front, stop)

    asyncio.run(work())


@click.command()
@click.argument("recording", type=_FILE)
@click.argument("log", type=_FILE)
@click.option(
    "--format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the answer is written.",
)
@click.pass_context
def compare(context: click.Context, recording: Path, log: Path, format: str) -> None:
    """Show where the emulator's log of the same flow differs from a recording; exits with 1 if it does."""
    from azureml_emulator import fidelity
    from azureml_emulator.recorder import read

    try:
        found = fidelity.compare(read(recording), read(log))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if format == "json":
        click.echo(json.dumps([{"route": each.route, "what": each.what} for each in found], indent=2))
    else:
        for each in found:
            click.echo(f"{each.route}: {each.what}")
    context.exit(1 if found else 0)
