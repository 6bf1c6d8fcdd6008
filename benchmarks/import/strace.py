"""Speed and memory of the strace importer, beside the plain way: one regular expression a line and a dictionary of open calls.

    python benchmarks/import/strace.py [FILE] [--lines N] [--format text|json]

Without FILE it writes the recording of an imagined training: ``-f -ttt -T -o``, four threads, a quarter of calls split.
Each reading runs in a process of its own; lines a CPU second, peak RSS, and the peak of one that only imports the code.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.readers import measure, rows_of

LINE = re.compile(
    rb"^(\d+) +(\d+)\.(\d+) (?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*?)"
    rb"(?:\) += (-?\d+|\?|0x[0-9a-f]+)(.*?)(?: <(\d+)\.(\d+)>)?)?$"
)


def ours(path: Path) -> int:
    from sofa_otel.exporters.read.strace import StraceImporter

    return rows_of(StraceImporter(), path)


def plain(path: Path) -> int:
    rows: list[tuple[object, ...]] = []
    count = 0
    open_calls: dict[bytes, tuple[int, bytes]] = {}
    match = LINE.match
    with path.open("rb") as file:
        for line in file:
            found = match(line)
            if found is None:
                continue
            tid, second, fraction, name, args, result, _, whole, part = found.groups()
            now = int(second) * 1_000_000_000 + int(fraction) * 1000
            if args.endswith(b"<unfinished ...>"):
                open_calls[tid] = now, args
                continue
            begun = open_calls.pop(tid, None) if b" resumed>" in line[:60] else None
            start = begun[0] if begun else now
            spent = int(whole) * 1_000_000_000 + int(part) * 1000 if whole else 0
            moved = int(result) if name in {b"read", b"write", b"recvmsg"} and result and result[:1] != b"-" else 0
            rows.append((start, spent, int(tid), name, moved))
            if len(rows) >= 65_536:
                count += len(rows)
                rows.clear()
    return count + len(rows)


def nothing(path: Path) -> int:
    import sofa_otel.exporters.read.strace  # noqa: F401

    return 0


def write(path: Path, lines: int) -> None:
    rng = random.Random(7)
    tids = [5060, 5061, 5064, 5065]
    calls: list[Callable[[], tuple[str, str]]] = [
        lambda: ("read(17<pipe:[229225]>,", f' "\\0\\0\\0\\37{"x" * rng.randrange(32)}"..., 65536) = {rng.randrange(65536)}'),
        lambda: (f'write(17, "\\200\\4\\225{"y" * rng.randrange(32)}"..., 440', ") = 440"),
        lambda: ("futex(0x7f60a8b4e6f0, FUTEX_WAIT_BITSET_PRIVATE, 0, {tv_sec=3223, tv_nsec=228049}, FUTEX_BITSET", ") = 0"),
        lambda: ("futex(0x7f60a8b4e6f0, FUTEX_WAKE_PRIVATE, 1", ") = 1"),
        lambda: ("poll([{fd=3, events=POLLIN}], 1, 5000", ") = 1 ([{fd=3, revents=POLLIN}])"),
        lambda: ("close(17", ")       = 0"),
        lambda: ("mmap(NULL, 393216, PROT_READ|PROT_WRITE, MAP_SHARED, 17, 0", ") = 0x7f60a7aba000"),
        lambda: ("recvmsg(18, {msg_name=NULL, ", "msg_iovlen=1}, 0) = -1 EAGAIN (Resource temporarily unavailable)"),
    ]  # fmt: skip

    def text() -> Iterator[str]:
        now, made = 1_690_000_000_000_000, 0
        open_calls: dict[int, tuple[str, str]] = {}
        while made < lines:
            now += rng.randrange(5, 80)
            made += 1
            tid = rng.choice(tids)
            lead = f"{tid}  {now // 1_000_000}.{now % 1_000_000:06d} "
            spent = f" <0.{rng.randrange(900):06d}>\n"
            if tid in open_calls:
                name, tail = open_calls.pop(tid)
                yield f"{lead}<... {name} resumed>{tail}{spent}"
                continue
            head, tail = rng.choice(calls)()
            if rng.random() < 0.2:
                open_calls[tid] = head.partition("(")[0], tail
                yield f"{lead}{head} <unfinished ...>\n"
            else:
                yield f"{lead}{head}{tail}{spent}"

    with path.open("w") as file:
        file.writelines(text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "train.strace"
        if options.file is None:
            write(path, options.lines)
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        found = {
            name: measure(function, path, nothing) for name, function in (("idle", nothing), ("ours", ours), ("regex", plain))
        }
        size = path.stat().st_size
    for one in ("ours", "regex"):
        found[one] |= {"lines_per_cpu_s": lines / found[one]["cpu_s"], "cpu_s_per_gb": found[one]["cpu_s"] / size * 1e9}
    found["ours"]["ratio"] = found["regex"]["cpu_s"] / found["ours"]["cpu_s"]
    if options.format == "json":
        print(json.dumps({"lines": lines, "bytes": size} | found, indent=1))
        return
    print(f"{lines:,} lines, {size / 1e6:,.0f} MB; importing the code alone: {found['idle']['rss_mb']:.0f} MB")
    for one in ("ours", "regex"):
        f = found[one]
        print(
            f"{one:6s} {f['lines_per_cpu_s'] / 1e6:6.2f} M lines/s  {f['cpu_s_per_gb']:6.1f} CPU s/GB  {f['rss_mb']:6.0f} MB  "
            f"{f['rows']:,.0f} rows"
        )
    print(f"ratio  {found['ours']['ratio']:.1f}")


if __name__ == "__main__":
    main()
