"""Where runs lie: names, which directory a rank takes, what is there, and what may go."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from sofa_otel.core.errors import InputError
from sofa_otel.core.run.meta import META_FILE, RunMeta, RunTakenError, read_meta, writer_alive

DEFAULT_FOLDER: Final = "sofa-runs"


class RunEntry(NamedTuple):
    """A run in a folder. ``size`` is in bytes; ``alive``: it is being written."""

    path: Path
    meta: RunMeta
    size: int
    alive: bool


def default_run_name(now: datetime, job: str, rank: int) -> str:
    """``sofa-runs/<time>-<job>-r<rank>``, relative to the working directory; safe whatever the job is called."""
    word = re.sub(r"[^A-Za-z0-9._]+", "-", job).strip("-.")[:60] or "job"
    return f"{DEFAULT_FOLDER}/{now:%Y%m%d-%H%M%S}-{word}-r{rank}"


def free_directory(path: Path | str, rank: int) -> Path:
    """The directory that rank ``rank`` should take for the RUN ``path``: itself, or ``<path>-r<rank>`` beside another rank's.

    Raises:
        RunTakenError: ``path`` holds a run of the same rank or something that is no run, or both are taken.
    """
    path = Path(path)
    if _is_free(path):
        return path
    owner = _owner(path)
    if owner == rank or (owner is None and not (path / ".lock").exists()):
        what = f"a run of rank {rank}" if owner == rank else "something that is not a run"
        raise RunTakenError(f"{path} already holds {what}", "choose another directory with -o, or move this one away")
    beside = path.with_name(f"{path.name}-r{rank}")
    if not _is_free(beside):
        raise RunTakenError(f"{path} and {beside} are both taken", "choose another directory with -o")
    return beside


def is_run(path: Path) -> bool:
    """Whether ``path`` is a real directory (no link) that holds a readable ``run.json``."""
    if path.is_symlink() or not path.is_dir() or (path / META_FILE).is_symlink():
        return False
    return _meta(path) is not None


def list_runs(folder: Path | str = DEFAULT_FOLDER) -> list[RunEntry]:
    """Runs directly in ``folder``, newest first; whatever is not a run is passed over."""
    found: list[RunEntry] = []
    with suppress(OSError):
        for path in Path(folder).iterdir():
            meta = _meta(path) if is_run(path) else None
            if meta is not None:
                found.append(RunEntry(path, meta, _size(path), meta.state == "running" and writer_alive(path)))
    return sorted(found, key=lambda run: (-run.meta.started_ns, run.path.name))


def prune(folder: Path | str, keep: int) -> list[Path]:
    """Delete all but the ``keep`` newest runs of ``folder``; runs that are being written stay.

    Only real directories that are runs go, and nothing is deleted through a link.

    Returns:
        What was deleted.

    Raises:
        ValueError: ``keep`` is negative.
        OSError: Something could not be deleted.
    """
    if keep < 0:
        raise ValueError("keep must not be negative")
    gone: list[Path] = []
    for run in list_runs(folder)[keep:]:
        if not run.alive and is_run(run.path):
            shutil.rmtree(run.path)  # by descriptors: does not follow a link that is put there meanwhile
            gone.append(run.path)
    return gone


def _is_free(path: Path) -> bool:
    try:
        return next(path.iterdir(), None) is None
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:
        return False


def _meta(path: Path) -> RunMeta | None:
    try:
        return read_meta(path)
    except InputError:
        return None


def _owner(path: Path) -> int | None:
    meta = _meta(path)
    return None if meta is None else meta.rank


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
