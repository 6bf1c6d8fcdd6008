"""A planted training job: sample, hook, call and device rows with known truth, built from core's data structures alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.records import Iteration
from sofa_otel.core.symbols import Tables

MS = 1_000_000
START = 1_700_000_000_000_000_000
PID = 4711
HEADER = BatchHeader("job", 0, "host", f"probe/{PID}")

Frame = tuple[str, str, int]
"""Function, module, line."""

MAIN: tuple[Frame, ...] = (("<module>", "__main__", 90), ("main", "__main__", 70))
STEP: dict[str, tuple[Frame, ...]] = {
    "get_batch": (("get_batch", "__main__", 12), ("decode", "images", 5)),
    "forward": (("Net.forward", "__main__", 30), ("dense", "layers", 8)),
    "backward": (("Net.backward", "__main__", 40), ("dense_grad", "layers", 18)),
    "optimizer_step": (("Sgd.step", "optim", 60),),
}
"""Where a step's time goes, in order."""
SHARE = {"get_batch": 0.2, "forward": 0.3, "backward": 0.4, "optimizer_step": 0.1}
PHASE = {
    "get_batch": "data_loading",
    "forward": "model_forward",
    "backward": "model_backward",
    "optimizer_step": "optimizer_update",
}


def path(tables: Tables, frames: tuple[Frame, ...], offset: int = 0, folder: str = "/nowhere") -> int:
    """Intern a Python stack, outermost first."""
    return tables.paths.intern_frames(
        tables.symbols.intern(function, module, 10 * line + offset, f"{folder}/{module.strip('_')}.py", line)
        for function, module, line in frames
    )


def samples(
    tables: Tables, rows: list[tuple[int, int, int]], period: int | list[int], *, pid: int = PID, tid: int = PID
) -> EventBatch:
    """Samples from ``(instant, path, wait)``; ``period`` is the time each stands for."""
    return EventBatch.build(
        HEADER, tables, start_ns=[r[0] for r in rows], duration_ns=period, kind=Kind.PYTHON_SAMPLE, subkind=[r[2] for r in rows],
        name=[tables.paths.leaf(r[1]) for r in rows], path=[r[1] for r in rows], pid=pid, tid=tid,
    )  # fmt: skip


def job(tables: Tables, *, steps: int = 100, step_ms: float = 100.0, period_ms: float = 5.0, seed: int = 0) -> EventBatch:
    """Samples of the leading thread of ``steps`` equal steps."""
    rng = np.random.default_rng(seed)
    rows = []
    period = int(period_ms * MS)
    paths = {name: [path(tables, MAIN + frames, offset) for offset in range(3)] for name, frames in STEP.items()}
    borders = np.cumsum(list(SHARE.values()))
    names = list(STEP)
    lengths = []
    time = START
    while time < START + int(steps * step_ms * MS):
        lengths.append(int(period * rng.uniform(0.5, 1.5)))  # a strictly periodic sampler would alias with the step
        time += lengths[-1]
        place = ((time - START) / (step_ms * MS)) % 1.0
        name = names[int(np.searchsorted(borders, place, "right").clip(0, len(names) - 1))]
        rows.append((time, paths[name][int(rng.integers(3))], int(Wait.ON_CPU)))
    return samples(tables, rows, lengths)


def iterations(steps: int = 100, step_ms: float = 100.0, first: int = 0, **fields: Any) -> list[Iteration]:
    """The planted steps as the detector would report them."""
    return [
        Iteration(
            job="job",
            rank=0,
            level="step",
            index=i,
            start_ns=START + round(i * step_ms * MS),
            end_ns=START + round((i + 1) * step_ms * MS),
            confidence=1.0,
            source="test",
            **fields,
        )
        for i in range(first, steps)
    ]
