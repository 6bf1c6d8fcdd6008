"""Anonymous tokens: the step among layers, micro-batches and validation; nothing by chance; the same answer however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from iteration_streams import HEADER, START, detect, gather, slices

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.core.symbols import Tables
from sofa_otel.core.testing.aperiodic import KINDS, aperiodic
from sofa_otel.core.testing.synthetic import LoopSpec, generate
from sofa_otel.processors.iterate.detector import DetectorOutput, IterationDetector
from sofa_otel.processors.iterate.tokens import OPTIMISER, role_of

COUNTED = (IterationKind.TRAIN, IterationKind.WARMUP)


def kernels(step: list[str], steps: int, *, gap_s: float = 0.0005, seed: int = 0, kind: Kind = Kind.GPU_KERNEL) -> EventBatch:
    """``steps`` times the same names, one after the other with a little jitter, as one stream."""
    tables = Tables()
    ids = [tables.symbols.intern(name, "kernel") for name in step] * steps
    gaps = gap_s * np.random.default_rng(seed).uniform(0.7, 1.3, len(ids))
    ns = START + (np.cumsum(gaps) * 1e9).astype(np.int64)
    return EventBatch.build(HEADER, tables, start_ns=ns, kind=kind, name=ids, pid=0, tid=7)


def transformer(layers: int, update: list[str], *, micro: int = 1) -> list[str]:
    """Names of one step: equal layers forward and backward, ``micro`` times, then the update."""
    forward = ["norm", "gemm_qkv", "attention", "gemm_out", "norm", "gemm_up", "gelu", "gemm_down", "add"]
    backward = ["add_b", "gemm_d1", "gemm_d2", "gelu_b", "gemm_d3", "norm_b", "attention_b", "gemm_d4", "gemm_d5", "norm_b"]
    body = ["copy_tokens", "embedding", *forward * layers, "head", "loss", "loss_b", *backward * layers, "embedding_b"]
    return body * micro + update


def counted(out: DetectorOutput) -> int:
    return sum(i.kind in COUNTED for i in out.iterations)


@pytest.mark.parametrize("layers", [6, 24])
@pytest.mark.parametrize("update", [["multi_tensor_apply_kernel", "fill"], ["k81", "k82", "k83"]])
@pytest.mark.parametrize("steps", [5, 12])
def test_the_step_is_found_among_its_layers(layers: int, update: list[str], steps: int) -> None:
    out = detect(kernels(transformer(layers, update), steps))
    assert out.detections[-1].found, out.detections[-1].reason
    assert abs(counted(out) - steps) <= 1


@pytest.mark.parametrize("micro", [2, 4, 16])
@pytest.mark.parametrize("update", [["multi_tensor_apply_kernel", "fill"], ["k81", "k82", "k83"]])
def test_accumulated_micro_batches_are_one_step(micro: int, update: list[str]) -> None:
    out = detect(kernels(transformer(4, update, micro=micro), 8))
    assert out.detections[-1].found, out.detections[-1].reason
    assert abs(counted(out) - 8) <= 1


@pytest.mark.parametrize("layers", [6, 24])
def test_three_steps_are_too_few_and_their_layers_are_no_steps(layers: int) -> None:
    out = detect(kernels(transformer(layers, ["multi_tensor_apply_kernel"]), 3))
    last = out.detections[-1]
    assert not last.found or last.confidence <= 0.5 or abs(counted(out) - 3) <= 1


def test_tokens_of_a_model_that_writes_text_are_steps_not_its_layers() -> None:
    decode = [
        "embedding",
        *["norm", "gemv_qkv", "rope", "attention", "gemv_out", "norm", "gemv_up", "gemv_down"] * 32,
        "head",
        "sample",
    ]
    out = detect(kernels(decode, 20, gap_s=0.0001))
    assert out.detections[-1].found, out.detections[-1].reason
    assert abs(counted(out) - 20) <= 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("accumulation", [1, 4])
def test_noise_loss_and_jitter(seed: int, accumulation: int) -> None:
    spec = LoopSpec(
        streams=("gpu_kernel",), iterations=60, jitter=0.2, noise=0.1, loss=0.05, accumulation=accumulation, layers=8, seed=seed
    )
    made = generate(spec)
    out = detect(made.merged().take(np.argsort(made.merged().end_ns, kind="stable")))
    assert abs(counted(out) - 60) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_where_nothing_recurs(kind: str) -> None:
    made = aperiodic(kind, 4711, events=3000, event_kind=Kind.GPU_KERNEL)
    assert not detect(made.batches[0]).detections[-1].found


def test_voted_iterations_do_not_depend_on_how_events_come() -> None:
    batch = kernels(transformer(6, ["fused_adam"]), 40)
    whole = detect(batch)
    detector = IterationDetector("job", 0, batch.tables)
    outs = []
    for piece, until in slices(batch):
        cut = len(piece) // 3
        outs.append(detector.feed(piece.take(slice(0, cut)), int(piece.end_ns[cut]) if cut < len(piece) else until))
        outs.append(detector.feed(piece.take(slice(cut, len(piece))), until))
    outs.append(detector.finish(int(batch.end_ns[-1])))
    again = gather(outs)
    assert again.iterations == whole.iterations
    assert again.detections == whole.detections


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_saved_vote_goes_on_identically(part: float) -> None:
    batch = kernels(transformer(6, ["fused_adam"]), 40)
    whole = detect(batch)
    pieces = list(slices(batch))
    at = int(part * len(pieces))
    first = IterationDetector("job", 0, batch.tables)
    outs = [first.feed(piece, until) for piece, until in pieces[:at]]
    second = IterationDetector.from_bytes(first.to_bytes(), batch.tables)
    outs += [second.feed(piece, until) for piece, until in pieces[at:]]
    outs.append(second.finish(int(batch.end_ns[-1])))
    assert gather(outs).iterations == whole.iterations


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("void at::native::multi_tensor_apply_kernel<TensorListMetadata<4>, FusedAdamMathFunctor<float>>", OPTIMISER),
        ("Optimizer.step#AdamW.step", OPTIMISER),
        ("aten::_foreach_addcdiv_", OPTIMISER),
        ("aten::addmm", 0),
        ("ampere_sgemm_128x64_tn", 0),
        ("torch::optimized_gemm", 0),
    ],
)
def test_optimisers_are_known_by_name(name: str, role: int) -> None:
    assert role_of(name) == role
