"""RunMeta: ``run.json``, the small document that says what a run was and whether it still goes on.

It is only ever replaced by rename, so a reader sees the old or the new one. Whether the writer lives is told by an advisory lock
on ``.lock`` which the kernel releases with the process, not by a process id that may have been given away again.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from sofa_otel.core.errors import InputError, UsageError
from sofa_otel.core.report import CollectorSummary, RunCost

SCHEMA: Final = "sofa/run/v1"
META_FILE: Final = "run.json"
LOCK_FILE: Final = ".lock"
DATABASE_FILE: Final = "run.sqlite"
CATALOGUE_FILE: Final = "catalogue.json"
RAW_FOLDER: Final = "raw"


class RunTakenError(UsageError):
    """The directory that was asked for already holds something."""


class RunMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was.

    Attributes:
        command: The target's arguments, redacted.
        started_ns, ended_ns: UNIX ns; ``ended_ns`` 0 while the run goes on.
        exit_code: The target's, 128 + signal when it was killed, None while not known.
        rank: Rank of this directory's writer; ``ranks`` are all ranks that it holds records of.
        endpoints: What left or could leave the machine (URLs).
        metrics: URL of ``/metrics``, empty when there is none.
        host, pid: Where the writer ran.
        facts: Free figures and texts about the run (``cpu.count``, ``python.version`` …).
        state: ``running`` until the writer closes it. A reader that finds the writer gone reports ``ended``.
    """

    schema: str = SCHEMA
    command: list[str]
    started_ns: int
    ended_ns: int = 0
    exit_code: int | None = None
    job: str
    rank: int
    world_size: int = 1
    ranks: list[int] = []
    warnings: list[str] = []
    collectors: list[CollectorSummary] = []
    cost: RunCost = RunCost()
    endpoints: list[str] = []
    metrics: str = ""
    host: str = ""
    pid: int = 0
    facts: dict[str, str | float] = {}
    state: Literal["running", "ended"] = "running"


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write ``path`` so that every reader sees either the old or the new content, also after ``kill -9``.

    Args:
        durable: Also survive a power cut (fsync).

    Raises:
        OSError: As from the file system; the old content is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_meta(directory: Path, meta: RunMeta, *, durable: bool = False) -> None:
    """Replace ``run.json``.

    Raises:
        OSError: As from the file system.
    """
    text = msgspec.json.format(msgspec.json.encode(meta), indent=2)
    replace_file(directory / META_FILE, text + b"\n", durable=durable)


def read_meta(directory: Path) -> RunMeta:
    """The run's own word, as it was last written.

    Raises:
        InputError: There is no ``run.json``, it is not one, or it is of a version that this program does not know.
    """
    path = directory / META_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{directory} is not a run: {META_FILE} cannot be read ({error.strerror}, byte 0)",
            "give the directory that `sofa run -o` made, or see `sofa runs list`",
        ) from error
    try:
        meta = msgspec.json.decode(data, type=RunMeta)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        where = "" if "byte" in str(error) else ", byte 0"
        raise InputError(f"{path}{where}: not a run's description: {error}", "restore the file, or run again") from error
    if meta.schema != SCHEMA:
        raise InputError(
            f"{path}, byte 0: schema is {meta.schema!r}, this program reads {SCHEMA!r}", "use the sofa that wrote it"
        )
    return meta


def writer_alive(directory: Path) -> bool:
    """Whether a process still writes the run in ``directory``."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # A file system without locks: the process id is the next best witness.
        return _process_alive(directory)
    finally:
        os.close(descriptor)
    return False


def _process_alive(directory: Path) -> bool:
    try:
        meta = read_meta(directory)
        if meta.host not in ("", os.uname().nodename):
            return True  # another machine's run: it may live, so leave it alone
        os.kill(meta.pid, 0)
    except (InputError, ProcessLookupError):
        return False
    except OSError:
        return True
    return meta.pid > 0


def claim(directory: Path) -> int:
    """Make ``directory`` ours, exactly once among any number of processes.

    Returns:
        Descriptor of the held lock; closing it (or dying) releases it.

    Raises:
        RunTakenError: The directory holds something already.
        UsageError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = next(directory.iterdir(), None)
        if taken is not None:
            raise RunTakenError(
                f"{directory} is not empty (it holds {taken.name})", "choose another directory with -o, or move this one away"
            )
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise RunTakenError(f"{directory} was taken this moment", "choose another directory with -o") from error
    except OSError as error:
        raise UsageError(
            f"cannot make the run directory {directory}: {error.strerror}", "choose another place with -o"
        ) from error
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
