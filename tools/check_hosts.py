"""Refuse files that name a package registry's host.

Where packages come from is the business of the machine that installs: lock files carry hashes, not addresses.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Written in two parts so that this file does not name them.
HOSTS = (
    ("py" "pi", "org"), ("python" "hosted", "org"), ("np" "mjs", "org"), ("np" "mjs", "com"), ("yarn" "pkg", "com"),
    ("crates", "io"), ("proxy.golang", "org"), ("maven", "org"), ("deb.debian", "org"),
)  # fmt: skip
PATTERN = re.compile("|".join(re.escape(f"{name}.{end}") for name, end in HOSTS))


def main() -> int:
    """Print every hit as ``file:line``. Exit 1 if there is one."""
    listed = subprocess.run(["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"], capture_output=True, check=True)
    bad = 0
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = Path(name)
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1):
            if found := PATTERN.search(line):
                print(f"{name}:{number}: names the registry host {found.group()}", file=sys.stderr)
                bad += 1
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
