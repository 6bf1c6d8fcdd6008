"""The catalogue: why a swarm has the same id in the next window, the next run and the next release.

Identity is content: a 64-bit hash of the swarm's frame key. A swarm is *recognised* by its frame key (and the same surroundings
where several share it); against the catalogue of earlier runs also, where the key is not known, by the most similar set of member
functions (MinHash estimate of Jaccard ≥ .6, one to one), so that a renamed function keeps its id. Saved as JSON, it carries ids
into later runs.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

import msgspec

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import content_hash

SIMILAR: Final = 0.6
SKETCH: Final = 32
MAX_ENTRIES: Final = 256


def swarm_id(*parts: str) -> str:
    """16 hexadecimal digits of the content hash of ``parts``."""
    return f"{content_hash(*parts):016x}"


OTHER_ID: Final = swarm_id("sofa", "other")


class Candidate(NamedTuple):
    """A group of the current cut that needs an id."""

    key: str
    host: str
    sketch: tuple[int, ...]


class Entry(msgspec.Struct):
    """A known swarm: its id, the frame key and surroundings it was created with, and a sketch of its members' hashes."""

    id: str
    key: str
    host: str
    sketch: tuple[int, ...]
    caption: str = ""


class _Document(msgspec.Struct):
    swarms: list[Entry]
    schema: str = "sofa/catalogue/v1"


def sketch_of(members: set[str]) -> tuple[int, ...]:
    """MinHash by bottom-k: the smallest hashes of a set; exact for small sets."""
    return tuple(sorted(content_hash(member) for member in members)[:SKETCH])


def similarity(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Jaccard similarity estimated from two sketches (k minimum values of the union)."""
    if not a or not b:
        return 0.0
    union = sorted(set(a) | set(b))[:SKETCH]
    both = set(a) & set(b)
    return sum(one in both for one in union) / len(union)


class Catalogue:
    """Known swarms by id, least recently used first."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._loaded: frozenset[str] = frozenset()
        self._aliases: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, swarm: str) -> Entry | None:
        """A known swarm."""
        return self._entries.get(swarm)

    def resolve(self, candidates: list[Candidate]) -> list[str]:
        """An id for every candidate, all different. Candidates come largest first; that decides ties."""
        ids: list[str] = [""] * len(candidates)
        taken: set[str] = set()

        def give(position: int, swarm: str) -> None:
            ids[position] = swarm
            taken.add(swarm)

        exact = {(entry.key, entry.host): entry.id for entry in self._entries.values()}
        exact |= {place: swarm for place, swarm in self._aliases.items() if swarm in self._entries}
        for i, one in enumerate(candidates):
            found = exact.get((one.key, one.host))
            if not ids[i] and found is not None and found not in taken:
                give(i, found)
        self._by_key(candidates, ids, taken)
        self._by_similarity(candidates, ids, taken)
        for i, one in enumerate(candidates):
            if not ids[i]:
                give(i, self._new_id(one, taken))
        for one, swarm in zip(candidates, ids, strict=True):
            self._remember(one, swarm)
        self._trim(taken)
        return ids

    def forget(self, swarms: set[str]) -> None:
        """Drop swarms that this run made (not those that were loaded)."""
        for swarm in swarms - self._loaded:
            self._entries.pop(swarm, None)

    def _by_key(self, candidates: list[Candidate], ids: list[str], taken: set[str]) -> None:
        by_key: dict[str, list[str]] = {}
        for entry in self._entries.values():
            if entry.id not in taken:
                by_key.setdefault(entry.key, []).append(entry.id)
        open_keys = Counter(one.key for one, swarm in zip(candidates, ids, strict=True) if not swarm)
        for i, one in enumerate(candidates):
            found = by_key.get(one.key, ())
            if not ids[i] and open_keys[one.key] == 1 and len(found) == 1:
                ids[i] = found[0]
                taken.add(found[0])

    def _by_similarity(self, candidates: list[Candidate], ids: list[str], taken: set[str]) -> None:
        pairs = sorted(
            (-score, entry.id, i)
            for i, one in enumerate(candidates)
            if not ids[i]
            for entry in self._entries.values()
            if entry.id in self._loaded and entry.id not in taken and (score := similarity(one.sketch, entry.sketch)) >= SIMILAR
        )
        for _, swarm, i in pairs:
            if not ids[i] and swarm not in taken:
                ids[i] = swarm
                taken.add(swarm)
                self._aliases[candidates[i].key, candidates[i].host] = swarm

    def _new_id(self, one: Candidate, taken: set[str]) -> str:
        """The largest swarm of a name has the id of the name alone, so that others coming and going do not change it."""
        choices = [
            swarm_id(one.key),
            swarm_id(one.key, one.host),
            *(swarm_id(one.key, one.host, str(n)) for n in range(MAX_ENTRIES + 64)),
        ]
        return next(swarm for swarm in choices if swarm not in taken and swarm not in self._entries)

    def _remember(self, one: Candidate, swarm: str) -> None:
        known = self._entries.pop(swarm, None)
        if known is None:
            known = Entry(swarm, one.key, one.host, one.sketch)
        elif one.sketch:
            known.sketch = one.sketch
        self._entries[swarm] = known

    def _trim(self, used: set[str]) -> None:
        for swarm in list(self._entries):
            if len(self._entries) <= MAX_ENTRIES:
                break
            if swarm not in used:
                del self._entries[swarm]

    def to_bytes(self) -> bytes:
        """JSON of the catalogue (``catalogue.json`` of a run directory)."""
        return msgspec.json.format(msgspec.json.encode(_Document(list(self._entries.values()))), indent=1)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "catalogue.json") -> Catalogue:
        """Read :meth:`to_bytes`.

        Raises:
            InputError: ``data`` is not a catalogue.
        """
        try:
            document = msgspec.json.decode(data, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: not a swarm catalogue: {error}", "leave it out, or take one that a run wrote") from error
        if document.schema != "sofa/catalogue/v1":
            raise InputError(f"{name}: schema {document.schema!r}, expected sofa/catalogue/v1", "use the release that wrote it")
        out = cls()
        for entry in document.swarms[-MAX_ENTRIES:]:
            out._entries[entry.id] = entry
        out._loaded = frozenset(out._entries)
        return out
