"""The in-process probe's collector: tells the target how to load the probe, and reads what the probes send.

Every Python process of the job has a probe of its own and a connection of its own, so one source is ``probe/<pid>``. Sockets
never block and nothing here owns a thread: ``poll`` accepts, reads what is there, and returns.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import tempfile
import time
from pathlib import Path

from sofa_otel.core.errors import InputError, RequirementError
from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect import probe_wire
from sofa_otel.exporters.collect.probe_counters import GroupOwner
from sofa_otel.exporters.collect.probe_stream import ProbeStream
from sofa_otel.exporters.collector import Capability, CollectorStats, Sink, Target

MAX_SOCKET_PATH = 100
READ_BYTES = 1 << 18
MAX_READS = 16
"""Reads of one connection in one poll: 4 MB, a whole ring of the probe."""
MAX_CONNECTIONS = 1024


class ProbeProcess:
    """A Python process that has (or had) a probe: what others may want to know of it."""

    def __init__(self, connection: socket.socket, stream: ProbeStream) -> None:
        self.connection = connection
        self.stream = stream
        self.out = bytearray()
        self.greeted = False


class ProbeCollector:
    """Reads in-process probes.

    Args:
        socket_path: Where probes connect; empty makes a private folder (0700) for it. A path given here gets mode 0666, for a
            pod's shared volume, where user ids differ.
        hooks: Whether probes may hook libraries.
        rate_hz: Samples per second at start, 0 for the probe's own choice.
        loops: Whether probes may use ``sys.monitoring``.
        counters: Whether probes send kernel counters; not needed beside the ``proc`` and ``cgroup`` collectors.
    """

    name = "probe"
    interval_s = 0.1

    def __init__(
        self, socket_path: str = "", *, hooks: bool = True, rate_hz: float = 0.0, loops: bool = True, counters: bool = True
    ) -> None:
        self._given = socket_path
        self._hooks, self._rate, self._loops, self._counters = hooks, rate_hz, loops, counters
        self._path = ""
        self._folder = ""
        self._home: Path | None = None
        self._listener: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._target: Target | None = None
        self._sink: Sink | None = None
        self._live: dict[int, ProbeProcess] = {}
        self._seqs: dict[str, int] = {}
        self._requests: dict[int, bytes] = {}
        self._owner = GroupOwner()
        self._gone = CollectorStats()
        self._cpu_s = 0.0

    # -- before the target starts ------------------------------------------------------------------------------------------

    def probe(self) -> Capability:
        """Usable wherever the probe's folder can be read; the trainer's Python is not known here."""
        provides = "Python stacks, thread states, loops and library calls of every Python process, from inside"
        if not hasattr(socket, "AF_UNIX"):
            return Capability(usable=False, provides=provides, missing="Unix sockets", remedy="run on Linux")
        if not (probe_folder() / "sitecustomize.py").is_file():
            return Capability(
                usable=False, provides=provides, missing=f"{probe_folder()} is incomplete", remedy="reinstall sofa-otel"
            )
        return Capability(usable=True, provides=provides)

    def environment(self) -> dict[str, str]:
        """Variables that load the probe into the target and all its children. The user's own PYTHONPATH stays behind ours."""
        self._listen()
        ours = str(probe_folder())
        before = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item and item != ours]
        hooks = self._hooks and (self._target is None or self._target.hooks)
        found = {
            "PYTHONPATH": os.pathsep.join([ours, *before]),
            "SOFA_PROBE_SOCKET": self._path,
            "SOFA_PROBE_HOOKS": "on" if hooks else "off",
        }
        if not self._loops:
            found["SOFA_PROBE_LOOPS"] = "off"
        if not self._counters:
            found["SOFA_PROBE_COUNTERS"] = "off"
        if self._rate > 0:
            found["SOFA_PROBE_RATE"] = f"{self._rate:g}"
        return found

    def start(self, target: Target, sink: Sink) -> None:
        """Listen. The target may start later.

        Raises:
            RequirementError: No socket can be made.
        """
        self._target, self._sink = target, sink
        self._listen()

    def live_in(self, directory: Path) -> None:
        """Make the socket's folder below ``directory`` (the run), so that nothing is left elsewhere if we are killed."""
        self._home = directory

    def _make_folder(self) -> str:
        """A private folder: in the run directory, or (path too long, no sockets on that file system) a temporary one."""
        if self._home is not None:
            folder = self._home.resolve() / ".probe"
            if len(os.fsencode(folder)) + 2 <= MAX_SOCKET_PATH and _takes_sockets(folder):
                return str(folder)
        return tempfile.mkdtemp(prefix="sofa-")

    def _listen(self) -> None:
        if self._listener is not None:
            return
        path = self._given
        if not path:
            self._folder = self._make_folder()
            path = str(Path(self._folder) / "p")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise RequirementError(f"socket path {path} is longer than {MAX_SOCKET_PATH} bytes", "choose a shorter TMPDIR")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._given:
                Path(path).unlink(missing_ok=True)
            listener.bind(path)
            Path(path).chmod(0o666 if self._given else 0o600)
            listener.listen(256)
        except OSError as error:
            listener.close()
            raise RequirementError(f"cannot listen at {path}: {error.strerror}", "choose another folder") from error
        listener.setblocking(False)
        self._path, self._listener = path, listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)

    # -- while it runs -----------------------------------------------------------------------------------------------------

    def poll(self, now_ns: int) -> None:
        """Take in what probes have sent."""
        if self._selector is None or self._sink is None or self._target is None:
            return
        began = time.thread_time()
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept(self._target, self._sink)
            else:
                self._read(key.data, self._sink)
        for process in list(self._live.values()):
            self._write(process)
        self._cpu_s += time.thread_time() - began

    def _accept(self, target: Target, sink: Sink) -> None:
        if self._listener is None or self._selector is None:
            return
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if len(self._live) >= MAX_CONNECTIONS:
                connection.close()
                sink.warn(f"more than {MAX_CONNECTIONS} processes have a probe; the rest are not watched")
                continue
            connection.setblocking(False)
            process = ProbeProcess(connection, ProbeStream(target, sink, self._next_seq, self._owner))
            self._live[connection.fileno()] = process
            self._selector.register(connection, selectors.EVENT_READ, process)
            self._read(process, sink)

    def _read(self, process: ProbeProcess, sink: Sink) -> None:
        for _ in range(MAX_READS):
            try:
                data = process.connection.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._end(process)
                return
            try:
                process.stream.feed(data)
            except InputError as error:
                sink.warn(f"probe of process {process.stream.pid or '?'}: {error}")
                self._end(process)
                return
            if process.stream.hello is not None and not process.greeted:
                process.greeted = True
                process.out += self._requests.get(process.stream.pid) or self._requests.get(0, b"")

    def _write(self, process: ProbeProcess) -> None:
        if process.out and process.greeted:
            try:
                del process.out[: process.connection.send(process.out)]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._end(process)

    def _end(self, process: ProbeProcess) -> None:
        if self._live.pop(process.connection.fileno(), None) is None:
            return
        if self._selector is not None:
            self._selector.unregister(process.connection)
        process.connection.close()
        self._gone = _plus(self._gone, process.stream)

    def _next_seq(self, source: str) -> int:
        seq = self._seqs.get(source, 0)
        self._seqs[source] = seq + 1
        return seq

    def request(self, request: CaptureRequest) -> None:
        """Pass a capture request on to one probe or all; later probes get it after their greeting."""
        if request.source not in (self.name, "*") and not request.source.startswith("probe/"):
            return
        pid = request.pid or (int(request.source[6:]) if request.source[6:].isdecimal() else 0)
        data = probe_wire.capture(request.mode, request.rate_hz, request.names, burst=request.mode == "raw")
        self._requests[pid] = data
        for process in self._live.values():
            if process.greeted and pid in (0, process.stream.pid):
                process.out += data

    def processes(self) -> list[ProbeStream]:
        """Conversations that stand now (their ``hello``, ``variables`` and ``stats``)."""
        return [process.stream for process in self._live.values() if process.stream.hello is not None]

    def stats(self) -> CollectorStats:
        """Account over all probes, those that are gone included."""
        total = self._gone
        for process in self._live.values():
            total = _plus(total, process.stream)
        return CollectorStats(
            events=total.events, dropped=total.dropped, cpu_s=self._cpu_s, target_cpu_s=total.target_cpu_s
        )  # fmt: skip

    def stop(self) -> None:
        """Read what is left, then close and remove the socket."""
        if self._sink is not None:
            self.poll(time.time_ns())
        for process in list(self._live.values()):
            self._end(process)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            Path(self._path).unlink(missing_ok=True)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def probe_folder() -> Path:
    """Folder that goes on PYTHONPATH; it holds only ``sitecustomize.py`` and ``_sofa_probe``."""
    return Path(__file__).resolve().parent.parent / "probe"


def _plus(total: CollectorStats, stream: ProbeStream) -> CollectorStats:
    return CollectorStats(
        events=total.events + stream.events,
        dropped=total.dropped + int(stream.number("dropped")),
        target_cpu_s=total.target_cpu_s + stream.number("cpu_ns") / 1e9,
    )


def _takes_sockets(folder: Path) -> bool:
    """Make ``folder`` (0700) and see whether a socket can be bound in it."""
    trial = folder / "t"
    try:
        folder.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.bind(str(trial))
        trial.unlink()
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return False
    return True
