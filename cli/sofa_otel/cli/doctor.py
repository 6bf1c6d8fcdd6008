"""``sofa doctor``: what can be collected here, what is missing, how to get it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec

import click
import msgspec

from sofa_otel.exporters.registry import doctor

_EXTRAS = {"run": ("scipy", "statsmodels", "rich", "jinja2"), "gpu": ("pynvml",)}


@click.command("doctor")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(form: str) -> None:
    """Say what can be collected here, what is missing and how to get it. Changes nothing."""
    rows = doctor()
    extras = {extra: [module for module in modules if find_spec(module) is None] for extra, modules in _EXTRAS.items()}
    if form == "json":
        document = {
            "schema": "sofa/doctor/v1",
            "python": platform.python_version(),
            "kernel": platform.release(),
            "user": os.getuid(),
            "collectors": [{"name": name, **msgspec.to_builtins(capability)} for name, capability in rows],
            "extras": {extra: {"installed": not missing, "missing": missing} for extra, missing in extras.items()},
        }
        click.echo(msgspec.json.encode(document).decode())
        return
    color = sys.stdout.isatty()
    click.echo(f"Python {platform.python_version()}, Linux {platform.release()}, uid {os.getuid()}\n")
    for name, capability in rows:
        mark = click.style("yes", fg="green") if capability.usable else click.style("no ", fg="yellow")
        privilege = "" if capability.privilege in ("", "none") else f"  [{capability.privilege}]"
        click.echo(f"{mark}  {name:<14} {capability.provides}{privilege}", color=color)
        if not capability.usable:
            click.echo(f"                    missing: {capability.missing}")
            click.echo(f"                    → {capability.remedy}")
    click.echo()
    for extra, missing in extras.items():
        what = "installed" if not missing else f"missing {', '.join(missing)}: pip install 'sofa-otel[{extra}]'"
        click.echo(f"extra [{extra}]: {what}")
