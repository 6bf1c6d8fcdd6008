"""Event streams of a training loop that never ran, with the truth: every difficulty is a number that a test can turn.

One step is a template of operations (load, forward and backward per layer, update); the loop repeats it with jitter, noise, loss,
accumulation, validation, checkpoints and a drifting length. What a source would see of it (calls, loops, samples, system calls,
ops, kernels) is derived from the same instants, so streams of one loop agree with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch, concat
from sofa_otel.core.kinds import Call, Kind, Wait
from sofa_otel.core.names import IterationKind
from sofa_otel.core.symbols import Symbol, Tables
from sofa_otel.core.testing.truth import Truth

START_NS: Final = 1_700_000_000_000_000_000
Stream = Literal["loop", "entry", "hook", "sample", "syscall", "cpu_op", "gpu_kernel"]


class LoopSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A training loop and what makes it hard.

    Attributes:
        streams: What is captured of it.
        iterations: Training steps, warm-up included.
        period_s: Length of a usual step.
        jitter: Standard deviation of a step's length, relative; operations inside move along.
        noise: Events that belong to nothing, relative to those that do; as many operations are renamed.
        loss: Probability that an event is lost.
        drift: Relative growth of the step from the first to the last.
        variable: Half-width of a uniform factor on every step's length (variable sequence lengths).
        accumulation: Micro-batches a step.
        layers: Layers of the model: distinct forward and backward operations.
        warmup: First steps, three times as long.
        validate_every, validation_passes: Validation after every so many steps, 0 for never.
        checkpoint_every: The same for checkpoints, which take two steps' time.
        setup_s: Time before the loop, full of events that do not recur.
        other_threads: Threads with periods of their own that have nothing to do with the loop.
        aperiodic_threads: Threads with events at random.
        sample_hz: Rate of the stream ``sample``.
        seed: Of the random generator; equal specs give equal streams.
    """

    streams: tuple[Stream, ...] = ("cpu_op",)
    iterations: int = 50
    period_s: float = 0.1
    jitter: float = 0.02
    noise: float = 0.0
    loss: float = 0.0
    drift: float = 0.0
    variable: float = 0.0
    accumulation: int = 1
    layers: int = 8
    warmup: int = 0
    validate_every: int = 0
    validation_passes: int = 3
    checkpoint_every: int = 0
    setup_s: float = 1.0
    other_threads: int = 0
    aperiodic_threads: int = 0
    sample_hz: float = 100.0
    seed: int = 0


class Synthetic(NamedTuple):
    """A generated input: one batch a stream, each sorted by ``start_ns``, on common tables."""

    batches: list[EventBatch]
    tables: Tables
    truth: Truth

    def merged(self) -> EventBatch:
        """All streams in one batch, sorted by ``start_ns``."""
        one = concat(self.batches[0].header, self.tables, self.batches)
        return one.take(np.argsort(one.start_ns, kind="stable"))


class _Ops(NamedTuple):
    """Operations of the main thread: ``start, duration i64`` ns, ``op`` index into the names."""

    start: NDArray[np.int64]
    duration: NDArray[np.int64]
    op: NDArray[np.int64]


_PID: Final = 4242
_SYSCALLS: Final = ("read", "futex", "mmap", "munmap", "ioctl", "write", "poll", "madvise", "openat", "close", "lseek", "brk")


def generate(spec: LoopSpec, *, job: str = "synthetic", rank: int = 0) -> Synthetic:
    """Make the streams of a loop."""
    rng = np.random.default_rng(spec.seed)
    tables = Tables()
    names = _op_names(spec)
    passes, kinds = _passes(spec, rng)
    starts = START_NS + int(spec.setup_s * 1e9) + np.concatenate([[0], np.cumsum(passes)[:-1]]).astype(np.int64)
    ops = _all_ops(spec, rng, names, starts, passes, kinds)
    truth = Truth(
        start_ns=starts.tolist(),
        end_ns=(starts + passes).tolist(),
        kind=kinds,
        micro_batches=spec.accumulation,
        note=f"generated, seed {spec.seed}",
    )
    make = _Streams(spec, rng, tables, names, ops, truth)
    batches = []
    for number, stream in enumerate(spec.streams):
        header = BatchHeader(job, rank, "synthetic", f"synthetic/{stream}", seq=number)
        batches.append(make.batch(header, stream))
    return Synthetic(batches, tables, truth)


def chunked(batch: EventBatch, slice_ns: int) -> list[EventBatch]:
    """A sorted batch in slices of event time, numbered as a live source would."""
    if not len(batch):
        return []
    slot = (batch.start_ns - batch.start_ns[0]) // slice_ns
    borders = [0, *(np.flatnonzero(np.diff(slot)) + 1).tolist(), len(batch)]
    pairs = pairwise(borders)
    return [batch.take(slice(a, b)).with_header(msgspec.structs.replace(batch.header, seq=i)) for i, (a, b) in enumerate(pairs)]


def _op_names(spec: LoopSpec) -> list[str]:
    forward = [f"forward_layer{i}" for i in range(spec.layers)]
    backward = [f"backward_layer{i}" for i in reversed(range(spec.layers))]
    return ["load_batch", *forward, "loss", *backward, "optimizer_step", "zero_grad", "evaluate", "save_checkpoint"]


def _passes(spec: LoopSpec, rng: np.random.Generator) -> tuple[NDArray[np.int64], list[IterationKind]]:
    """Length (ns) and kind of every pass, in order."""
    lengths: list[float] = []
    kinds: list[IterationKind] = []
    for i in range(spec.iterations):
        warm = i < spec.warmup
        growth = 1 + spec.drift * i / max(spec.iterations - 1, 1)
        factor = growth * (3.0 if warm else 1.0) * (1 + spec.variable * rng.uniform(-1, 1))
        lengths.append(factor * max(1 + spec.jitter * rng.standard_normal(), 0.2))
        kinds.append(IterationKind.WARMUP if warm else IterationKind.TRAIN)
        if spec.validate_every and (i + 1) % spec.validate_every == 0:
            lengths += (0.4 * np.maximum(1 + spec.jitter * rng.standard_normal(spec.validation_passes), 0.2)).tolist()
            kinds += [IterationKind.VALIDATION] * spec.validation_passes
        if spec.checkpoint_every and (i + 1) % spec.checkpoint_every == 0:
            lengths.append(2.0)
            kinds.append(IterationKind.CHECKPOINT)
    return (np.array(lengths) * spec.period_s * 1e9).astype(np.int64), kinds


def _template(spec: LoopSpec, names: list[str], kind: IterationKind) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Operations of a pass and their shares of its time."""
    index = {name: i for i, name in enumerate(names)}
    forward = [index[n] for n in names if n.startswith("forward")]
    backward = [index[n] for n in names if n.startswith("backward")]
    if kind is IterationKind.CHECKPOINT:
        ops = [index["save_checkpoint"]] * 5
    elif kind is IterationKind.VALIDATION:
        ops = [index["load_batch"], *forward, index["evaluate"]]
    else:
        ops = [index["load_batch"], *forward, index["loss"], *backward] * spec.accumulation + [
            index["optimizer_step"],
            index["zero_grad"],
        ]
    weight = np.array([{"load_batch": 3.0, "optimizer_step": 2.0}.get(names[op], 2.0 if op in backward else 1.0) for op in ops])
    return np.array(ops), weight / weight.sum()


def _all_ops(
    spec: LoopSpec,
    rng: np.random.Generator,
    names: list[str],
    starts: NDArray[np.int64],
    passes: NDArray[np.int64],
    kinds: Sequence[IterationKind],
) -> _Ops:
    """Every operation of the loop, vectorised over the passes of a kind."""
    parts: list[_Ops] = []
    labels = np.array([kind.value for kind in kinds])
    for kind in dict.fromkeys(kinds):
        rows = np.flatnonzero(labels == kind.value)
        op, share = _template(spec, names, kind)
        wobble = np.maximum(1 + spec.jitter * rng.standard_normal((len(rows), len(op))), 0.1) * share
        wobble /= wobble.sum(1, keepdims=True)
        edges = np.cumsum(wobble, 1) - wobble
        length = passes[rows][:, None]
        parts.append(
            _Ops(
                (starts[rows][:, None] + edges * length).astype(np.int64).ravel(),
                np.maximum(wobble * length * 0.9, 1).astype(np.int64).ravel(),
                np.broadcast_to(op, edges.shape).ravel().astype(np.int64),
            )
        )
    order = np.argsort(np.concatenate([p.start for p in parts]), kind="stable")
    return _Ops(*(np.concatenate(columns)[order] for columns in zip(*parts, strict=True)))


class _Streams:
    """Derives what each source sees from the operations."""

    def __init__(
        self, spec: LoopSpec, rng: np.random.Generator, tables: Tables, names: list[str], ops: _Ops, truth: Truth
    ) -> None:
        self.spec, self.rng, self.tables, self.names, self.ops, self.truth = spec, rng, tables, names, ops, truth
        intern = tables.symbols.intern
        self.code = np.array([intern(n, "train", 10 + i, "/job/train.py", 20 + i) for i, n in enumerate(names)], np.uint32)
        self.main = intern("main", "train", 2, "/job/train.py", 5)
        self.end_ns = truth.end_ns[-1]

    def batch(self, header: BatchHeader, stream: Stream) -> EventBatch:
        """One stream, with its noise, loss and other threads, sorted by start."""
        columns = getattr(self, f"_{stream}")()
        columns = [columns, *self._noise(columns), *self._threads(columns)]
        keys = {key for part in columns for key in part}
        total = {key: np.concatenate([self._column(part, key) for part in columns]) for key in keys}
        keep = self.rng.random(len(total["start_ns"])) >= self.spec.loss
        order = np.argsort(total["start_ns"][keep], kind="stable")
        return EventBatch.build(header, self.tables, pid=_PID, **{key: column[keep][order] for key, column in total.items()})

    @staticmethod
    def _column(part: dict[str, Any], key: str) -> NDArray[Any]:
        count = len(part["start_ns"])
        return np.broadcast_to(np.asarray(part.get(key, 0)), (count,))

    def _steps(self) -> list[tuple[int, int]]:
        rows = zip(self.truth.start_ns, self.truth.end_ns, self.truth.kind, strict=True)
        return [(start, end) for start, end, kind in rows if kind in (IterationKind.TRAIN, IterationKind.WARMUP)]

    def _calls(self, subkind: Call, start: NDArray[Any], name: NDArray[Any], duration: Any = 0) -> dict[str, Any]:
        return {
            "start_ns": start,
            "duration_ns": duration,
            "kind": int(Kind.PYTHON_CALL),
            "subkind": int(subkind),
            "name": name,
            "tid": _PID,
        }

    def _named(self, *prefixes: str) -> NDArray[np.bool_]:
        wanted = [i for i, n in enumerate(self.names) if n.startswith(prefixes)]
        return np.isin(self.ops.op, wanted)

    def _loop(self) -> dict[str, Any]:
        outer = self.tables.symbols.intern("train", "train", 64, "/job/train.py", 50)
        inner = self.tables.symbols.intern("micro_batches", "train", 32, "/job/train.py", 42)
        ends = np.array([end for _, end in self._steps()], np.int64)
        if self.spec.accumulation == 1:
            return self._calls(Call.LOOP, ends, np.full(len(ends), outer))
        loads = self.ops.start[self._named("load_batch")] + 1
        start = np.concatenate([ends, loads])
        return self._calls(Call.LOOP, start, np.concatenate([np.full(len(ends), outer), np.full(len(loads), inner)]))

    def _entry(self) -> dict[str, Any]:
        return self._calls(Call.ENTRY, self.ops.start, self.code[self.ops.op])

    def _hook(self) -> dict[str, Any]:
        step = self.tables.symbols.intern_symbol(Symbol("optimizer.step", "torch"))
        load = self.tables.symbols.intern_symbol(Symbol("dataloader.next", "torch"))
        rows = self._named("optimizer_step", "load_batch")
        name = np.where(self.ops.op[rows] == self.names.index("optimizer_step"), step, load)
        return self._calls(Call.HOOK, self.ops.start[rows], name, self.ops.duration[rows])

    def _cpu_op(self) -> dict[str, Any]:
        return {
            "start_ns": self.ops.start,
            "duration_ns": self.ops.duration,
            "kind": int(Kind.CPU_OP),
            "name": self.code[self.ops.op],
            "tid": _PID,
        }

    def _gpu_kernel(self) -> dict[str, Any]:
        kernel = np.array([self.tables.symbols.intern(f"{n}_kernel", "kernel") for n in self.names], np.uint32)
        return {**self._cpu_op(), "kind": int(Kind.GPU_KERNEL), "name": kernel[self.ops.op], "tid": 7, "device": 0}

    def _syscall(self) -> dict[str, Any]:
        """Each operation makes its own short run of calls; several operations share the commonest ones, as in life."""
        known = np.array([self.tables.symbols.intern(name, "syscall") for name in _SYSCALLS], np.uint32)
        habits = self.rng.integers(0, len(known), (len(self.names), 3))
        start = (self.ops.start[:, None] + self.ops.duration[:, None] * np.array([0.1, 0.4, 0.8])).astype(np.int64)
        return {"start_ns": start.ravel(), "kind": int(Kind.SYSCALL), "name": known[habits[self.ops.op].ravel()], "tid": _PID}

    def _sample(self) -> dict[str, Any]:
        period = int(1e9 / self.spec.sample_hz)
        start = np.arange(START_NS, self.end_ns, period, dtype=np.int64)
        start = start + self.rng.integers(0, max(period // 10, 1), len(start))
        paths = self.tables.paths
        root = paths.intern(0, self.main)
        leaf = np.array([paths.intern(root, int(code)) for code in self.code], np.uint32)
        at = np.searchsorted(self.ops.start, start, side="right") - 1
        inside = at >= 0
        op = self.ops.op[np.maximum(at, 0)]
        return {
            "start_ns": start,
            "duration_ns": period,
            "kind": int(Kind.PYTHON_SAMPLE),
            "subkind": int(Wait.ON_CPU),
            "name": np.where(inside, self.code[op], self.main),
            "path": np.where(inside, leaf[op], root),
            "tid": _PID,
        }

    def _noise(self, like: dict[str, Any]) -> list[dict[str, Any]]:
        """Setup that does not recur, and events (or renamed ones) that belong to nothing."""
        start, kind = like["start_ns"], like["kind"]
        before = int(min(200 * self.spec.setup_s, len(start)))
        extra = int(self.spec.noise * len(start))
        if self.spec.noise and "path" not in like:
            like["name"] = np.array(like["name"], np.uint32)
            renamed = self.rng.random(len(start)) < self.spec.noise / 2
            like["name"][renamed] = self._strangers(int(renamed.sum()))
        first = self.truth.start_ns[0]
        times = np.concatenate([self.rng.integers(START_NS, first + 1, before), self.rng.integers(first, self.end_ns, extra)])
        return [self._foreign(like, np.sort(times), kind, _PID if kind != Kind.GPU_KERNEL else 7)]

    def _threads(self, like: dict[str, Any]) -> list[dict[str, Any]]:
        """Threads that have nothing to do with the loop: some with a period of their own, some with none."""
        out = []
        span = self.end_ns - START_NS
        for number in range(self.spec.other_threads):
            period = self.spec.period_s * 1e9 * float(np.exp(self.rng.uniform(np.log(0.07), np.log(7))))
            beats = START_NS + (np.arange(int(span / period)) + self.rng.normal(0, 0.01, int(span / period))) * period
            start = (beats[:, None] + np.arange(4) * period / 9).astype(np.int64).ravel()
            part = self._foreign(like, start, like["kind"], _PID + 1 + number)
            part["name"] = np.resize(np.unique(part["name"])[:4], len(start)) if len(start) else part["name"]
            out.append(part)
        for number in range(self.spec.aperiodic_threads):
            count = max(len(like["start_ns"]) // 4, 10)
            out.append(
                self._foreign(like, np.sort(self.rng.integers(START_NS, self.end_ns, count)), like["kind"], _PID + 1000 + number)
            )
        return out

    def _foreign(self, like: dict[str, Any], start: NDArray[np.int64], kind: int, tid: int) -> dict[str, Any]:
        part: dict[str, Any] = {
            "start_ns": start,
            "kind": kind,
            "subkind": like.get("subkind", 0),
            "name": self._strangers(len(start)),
            "tid": tid,
        }
        if "path" in like:
            paths = self.tables.paths
            part["duration_ns"] = like["duration_ns"]
            part["path"] = np.array([paths.intern(0, int(name)) for name in part["name"]], np.uint32)
        return part

    def _strangers(self, count: int) -> NDArray[np.uint32]:
        known = [self.tables.symbols.intern(f"helper_{i}", "library", i, "/lib/helper.py", i + 1) for i in range(40)]
        return self.rng.choice(np.array(known, np.uint32), count)
