"""A RUN: the directory in which everything about one observed execution lives.

``run.json`` (what it was), ``run.sqlite`` (records and resource series), ``raw/*.npz`` (events of the iterations that were kept)
and ``catalogue.json`` (its swarms). Killed at any moment it is readable: ``run.json`` is replaced by rename, the database is a
write-ahead log, and a lock that dies with its process tells a reader whether the writer still lives.
"""

from sofa_otel.core.run.folder import (
    RunEntry,
    default_run_name,
    free_directory,
    is_run,
    list_runs,
    prune,
)
from sofa_otel.core.run.meta import RunMeta, RunTakenError, read_meta, writer_alive
from sofa_otel.core.run.raw import RawRef
from sofa_otel.core.run.reader import ResourceSeries, RunReader, open_run
from sofa_otel.core.run.writer import RunWriter

__all__ = [
    "RawRef",
    "ResourceSeries",
    "RunEntry",
    "RunMeta",
    "RunReader",
    "RunTakenError",
    "RunWriter",
    "default_run_name",
    "free_directory",
    "is_run",
    "list_runs",
    "open_run",
    "prune",
    "read_meta",
    "writer_alive",
]
