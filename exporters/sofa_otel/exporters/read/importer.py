"""The small protocol every importer implements, and how one is found for a file.

An importer turns another program's recording into event batches. It never holds the file: memory is bounded by what is open in
it (calls that have not returned, names), not by its length. It may deliver in any order; the host sorts.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol

from sofa_otel.core.errors import InputError, RequirementError, UsageError
from sofa_otel.exporters.collector import Sink
from sofa_otel.exporters.read.source import ByteSource

GROUP: Final = "sofa.importers"
LATER: Final = ("nsys", "pcap")
_LEAST: Final = 0.2


class ImportSink(Sink, Protocol):
    """Where an importer delivers, and what it puts into headers when the file does not say.

    Attributes:
        job, rank, host: Defaults. An importer that reads a rank or a host in the file uses that.
    """

    job: str
    rank: int
    host: str


class Importer(Protocol):
    """Reads one format (or one family of formats of one program).

    Attributes:
        name: What ``--from`` calls it; also the source name of its batches.
    """

    name: str

    def recognise(self, head: bytes, name: str) -> float:
        """How sure it is (0..1) that a file whose first 64 KB are ``head`` and whose base name is ``name`` is its own. Bytes
        count, the name may only break a tie."""

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """Deliver everything in the file, in batches of at most 65,536 rows.

        What is damaged or cut off is left out, what stands around it is delivered, and ``sink.warn`` says what was lost:
        ``<base name>, line N: …`` (or ``byte N``, ``event N``). Many losses of one kind are one warning with a count.

        Raises:
            InputError: There is nothing in it that can be read; the message names file and line, byte or event.
        """


def available() -> dict[str, EntryPoint]:
    """Entry points by importer name."""
    out: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        out.setdefault(entry.name, entry)
    return out


def load(name: str, entries: Mapping[str, EntryPoint] | None = None) -> Importer:
    """Make the importer ``name``.

    Raises:
        UsageError: There is none of that name.
        RequirementError: It is part of a later version, or its plug-in is broken.
    """
    known = available() if entries is None else entries
    if name in LATER and name not in known:
        raise RequirementError(f"reading {name} is not part of this version", f"known: {', '.join(sorted(known))}")
    if name not in known:
        raise UsageError(f"no importer is called {name!r}", f"known importers: auto, {', '.join(sorted(known))}")
    try:
        found: Importer = known[name].load()()
    except Exception as error:
        raise RequirementError(
            f"the importer {name!r} ({known[name].value}) cannot be loaded: {type(error).__name__}: {error}",
            "reinstall or remove the distribution that provides it",
        ) from error
    return found


def detect(source: ByteSource, entries: Mapping[str, EntryPoint] | None = None) -> Importer:
    """The importer that is surest of ``source``.

    Raises:
        InputError: The file is empty, or none knows it.
    """
    head = source.head()
    if not head:
        raise InputError(f"{source.name}, byte 0: the file is empty{_because(source)}", "record again")
    known = available() if entries is None else entries
    found: list[tuple[float, str, Importer]] = []
    for name in sorted(known):
        try:
            importer = load(name, known)
            found.append((importer.recognise(head, source.name), name, importer))
        except Exception:  # noqa: BLE001, S112 - a broken plug-in does not know the file
            continue
    best = max(found, key=lambda item: item[0], default=None)
    if best is None or best[0] < _LEAST:
        raise InputError(
            f"{source.name}, byte 0: no importer knows this format{_because(source)}",
            f"say which it is with --from ({', '.join(sorted(known))})",
        )
    return best[2]


def _because(source: ByteSource) -> str:
    return f" ({source.damage})" if source.damage else ""
