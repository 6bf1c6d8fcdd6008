"""Check that the documents hold: every relative link leads somewhere, every command and option is in the reference."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def broken_links() -> list[str]:
    """``file: target`` of relative links without a file."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    return [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]


def undocumented(command: click.Command, name: str, text: str) -> list[str]:
    """Commands and long options that ``text`` does not name."""
    missing = [] if name in text else [name]
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for sub in command.list_commands(context):
                child = command.get_command(context, sub)
                if child is not None:
                    missing += undocumented(child, sub if name == "sofa" else f"{name} {sub}", text)
        return missing
    options = [o for p in command.params for o in p.opts if o.startswith("--") and o != "--help"]
    return missing + [f"{name} {option}" for option in options if option not in text]


def main() -> int:
    """Print what is wrong. Exit 1 if anything is."""
    from sofa_otel.cli.main import cli

    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8").replace("list | prune", "list | runs prune")
    wrong = [f"broken link: {link}" for link in broken_links()]
    wrong += [f"not in docs/reference/cli.md: {what}" for what in undocumented(cli, "sofa", page)]
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
