"""Records and scrapes that the pipeline tests share."""

from __future__ import annotations

import http.client

from sofa_otel.core.names import IterationKind, Phase, Resource
from sofa_otel.core.records import Iteration, PhaseBreakdown, SwarmWindow


def iteration(index: int, took_ns: int, kind: IterationKind = IterationKind.TRAIN, rank: int = 0) -> Iteration:
    return Iteration(
        job="j", rank=rank, level="step", index=index, start_ns=10**18 + index * 10**9, end_ns=10**18 + index * 10**9 + took_ns,
        confidence=0.9, source="probe:loop", kind=kind,
    )  # fmt: skip


def window(swarm: str, time_ns: int, rank: int = 0, concurrent: bool = False) -> SwarmWindow:
    return SwarmWindow(job="j", rank=rank, iteration=0, swarm=swarm, time_ns=time_ns, calls=2, bytes=7, concurrent=concurrent)


def some_records() -> list[Iteration | PhaseBreakdown | SwarmWindow]:
    return [
        iteration(0, 900_000_000, IterationKind.WARMUP),
        *(iteration(i, 100_000_000 + i) for i in range(1, 20)),
        PhaseBreakdown(
            job="j", rank=0, iteration=0, iterations=20, start_ns=0, end_ns=1,
            phase_ns={Phase.DATA_LOADING: 3, Phase.MODEL_FORWARD: 4}, exposed_ns={Resource.LOADER: 3, Resource.CPU_USER: 4},
        ),
        *(window(f"{i:016x}", i) for i in range(1, 10)),
        window(f"{1:016x}", 50, concurrent=True),
    ]  # fmt: skip


def request(port: int, method: str = "GET", path: str = "/metrics", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def samples(families: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}  # type: ignore[attr-defined]
