"""`edgetrain completion`: what a shell needs to complete verbs, options, and the names of this repository."""

from __future__ import annotations

import click

from edgetrain.cli.session import Session, format_option, pass_session

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "edgetrain", "_EDGETRAIN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@format_option("text", "json")
@pass_session
@click.pass_context
def completion(context: click.Context, session: Session, /, shell: str) -> None:
    """Print what SHELL needs to complete verbs, options and names.

    \b
    bash  echo 'eval "$(edgetrain completion bash)"' >> ~/.bashrc     (bash 4.4 or newer)
    zsh   echo 'eval "$(edgetrain completion zsh)"' >> ~/.zshrc       (after compinit)
    fish  edgetrain completion fish > ~/.config/fish/completions/edgetrain.fish

    Names of experiments, models, targets and recorded runs come from the checkout.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.BadParameter(f"no completion for {shell}")
    script = made(context.find_root().command, {}, PROGRAM, VARIABLE).source()
    if session.format == "json":
        from edgetrain.render.jsons import as_json

        session.show(as_json({"shell": shell, "script": script}))
        return
    # Not session.show: it is a program, every character of it is meant.
    click.echo(script)
