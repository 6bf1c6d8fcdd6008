"""The command ``sofa``.

Commands are loaded when called, so that ``sofa run`` starts without what ``sofa report`` needs.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from sofa_otel.core.errors import SofaError

COMMANDS: Final[dict[str, str]] = {
    "run": "Run a command and watch it.",
    "attach": "Watch processes that run already.",
    "top": "The live view of a run.",
    "import": "Other programs' recordings (Kineto, strace, perf, …) as a run.",
    "report": "What a run, or the ranks of a job, say.",
    "runs": "List and prune run directories.",
    "demo": "A bundled small run, explained in seconds.",
    "doctor": "What can be collected here, what is missing, how to get it.",
}

MODULES: Final[dict[str, str]] = {"import": "importing"}
"""Commands whose names are no module names."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the documentation."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``sofa_otel.cli.<name>`` and take its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"sofa_otel.cli.{MODULES.get(cmd_name, cmd_name)}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sofa-otel", prog_name="sofa")
def cli() -> None:
    """See what a training job does, without changing it."""


def main() -> NoReturn:
    """Entry point; every error that is raised on purpose ends in its exit code and a line that names the remedy."""
    environment = dict(os.environ)  # the user's, before we touch it: the target gets this one
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads would cost memory and make forking unsafe
    try:
        code = cli.main(obj=environment, standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("sofa: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except SofaError as error:
        click.echo(f"sofa: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
