"""What an event of a trace is: kind, direction, symbol, place, bytes and link, over all versions of PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kineto_traces import event, only, read_text, trace
from reading import DATA, read

from sofa_otel.core.kinds import Copy, Kind
from sofa_otel.exporters.read.kineto import KinetoImporter


def test_kinds_of_a_recording() -> None:
    found = read(KinetoImporter(), DATA / "kineto_microseconds.json.gz").rows
    kinds = {Kind(kind): int((found.kind == kind).sum()) for kind in np.unique(found.kind).tolist()}
    assert set(kinds) == {
        Kind.CPU_OP,
        Kind.GPU_RUNTIME,
        Kind.GPU_KERNEL,
        Kind.GPU_COPY,
        Kind.GPU_SYNC,
        Kind.COLLECTIVE,
        Kind.SPAN,
        Kind.MARK,
    }
    assert set(found.subkind[found.kind == Kind.GPU_COPY].tolist()) == {Copy.H2D, Copy.D2H, Copy.D2D, Copy.MEMSET}
    on_device = found.device == 1
    assert set(found.kind[on_device].tolist()) == {Kind.GPU_KERNEL, Kind.GPU_COPY, Kind.COLLECTIVE}
    # What was launched has the link of its launch.
    launched = np.isin(found.optional("link")[found.kind == Kind.GPU_RUNTIME], found.optional("link")[on_device])
    assert launched.sum() >= 3


KINDS = [
    ("cpu_op", "aten::mm", Kind.CPU_OP, 0, "cpu_op", -1),
    ("Operator", "aten::mm", Kind.CPU_OP, 0, "cpu_op", -1),
    ("cpu_op", "c10d::allreduce_", Kind.CPU_OP, 0, "cpu_op", -1),
    ("cpu_op", "nccl:all_reduce", Kind.CPU_OP, 0, "cpu_op", -1),
    ("cpu_op", "gloo:all_reduce", Kind.COLLECTIVE, 0, "collective", -1),
    ("user_annotation", "gloo:broadcast", Kind.COLLECTIVE, 0, "collective", -1),
    ("user_annotation", "nccl:all_reduce", Kind.SPAN, 0, "user_annotation", -1),
    ("user_annotation", "Optimizer.step#SGD.step", Kind.SPAN, 0, "user_annotation", -1),
    ("gpu_user_annotation", "## forward ##", Kind.SPAN, 0, "gpu_user_annotation", 10),
    ("user_annotation", "ProfilerStep#12", Kind.MARK, 0, "user_annotation", -1),
    ("gpu_user_annotation", "ProfilerStep#12", Kind.MARK, 0, "gpu_user_annotation", 10),
    ("cpu_op", "ProfilerStep#0", Kind.MARK, 0, "cpu_op", -1),
    ("user_annotation", "ProfilerStep#12 done", Kind.SPAN, 0, "user_annotation", -1),
    ("kernel", "void gemm<int>(float*)", Kind.GPU_KERNEL, 0, "kernel", 10),
    ("Kernel", "void gemm<int>(float*)", Kind.GPU_KERNEL, 0, "kernel", 10),
    ("kernel", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", Kind.COLLECTIVE, 0, "collective", 10),
    ("kernel", "ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclWorkElem)", Kind.COLLECTIVE, 0, "collective", 10),
    ("kernel", "rcclGenericKernel<1, false>", Kind.COLLECTIVE, 0, "collective", 10),
    ("kernel", "void at::native::reduce_kernel<512, 1>", Kind.GPU_KERNEL, 0, "kernel", 10),
    ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", Kind.GPU_COPY, Copy.H2D, "copy", 10),
    ("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", Kind.GPU_COPY, Copy.D2H, "copy", 10),
    ("gpu_memcpy", "Memcpy DtoD (Device -> Device)", Kind.GPU_COPY, Copy.D2D, "copy", 10),
    ("gpu_memcpy", "Memcpy PtoP (Device -> Device)", Kind.GPU_COPY, Copy.P2P, "copy", 10),
    ("Memcpy", "CopyHostToDevice", Kind.GPU_COPY, Copy.H2D, "copy", 10),
    ("gpu_memcpy", "Memcpy HtoH (Pageable -> Pinned)", Kind.GPU_COPY, Copy.UNKNOWN, "copy", 10),
    ("gpu_memset", "Memset (Device)", Kind.GPU_COPY, Copy.MEMSET, "copy", 10),
    ("Memset", "FillBuffer", Kind.GPU_COPY, Copy.MEMSET, "copy", 10),
    ("cuda_runtime", "cudaLaunchKernel", Kind.GPU_RUNTIME, 0, "cuda_runtime", -1),
    ("Runtime", "cudaLaunchKernel", Kind.GPU_RUNTIME, 0, "cuda_runtime", -1),
    ("cuda_driver", "cuLaunchKernel", Kind.GPU_RUNTIME, 0, "cuda_driver", -1),
    ("xpu_runtime", "urEnqueueKernelLaunch", Kind.GPU_RUNTIME, 0, "xpu_runtime", -1),
    ("mtia_runtime", "launch", Kind.GPU_RUNTIME, 0, "mtia_runtime", -1),
    ("privateuse1_driver", "launch", Kind.GPU_RUNTIME, 0, "privateuse1_driver", -1),
    ("cuda_runtime", "cudaDeviceSynchronize", Kind.GPU_SYNC, 0, "cuda_runtime", -1),
    ("cuda_runtime", "hipStreamSynchronize", Kind.GPU_SYNC, 0, "cuda_runtime", -1),
    ("cuda_driver", "cuEventSynchronize", Kind.GPU_SYNC, 0, "cuda_driver", -1),
    ("cuda_runtime", "cudaStreamWaitEvent", Kind.GPU_RUNTIME, 0, "cuda_runtime", -1),
    ("cuda_sync", "Stream Sync", Kind.GPU_SYNC, 0, "cuda_sync", 10),
    ("python_function", "<built-in function isinstance>", Kind.PYTHON_CALL, 0, "builtins", -1),
    ("overhead", "Buffer Flush", Kind.SPAN, 0, "overhead", -1),
    ("mtia_ccp_events", "kernel_1", Kind.GPU_KERNEL, 0, "kernel", 10),
    ("hpu_op", "matmul", Kind.GPU_KERNEL, 0, "kernel", 10),
    ("collective_comm", "allreduce", Kind.COLLECTIVE, 0, "collective", -1),
    ("blink.user_timing,rail", "paint", Kind.SPAN, 0, "blink.user_timing,rail", -1),
    ("", "anything", Kind.SPAN, 0, "", -1),
]


@pytest.mark.parametrize(("cat", "name", "kind", "subkind", "module", "device"), KINDS)
def test_kind(cat: str, name: str, kind: Kind, subkind: int, module: str, device: int, tmp_path: Path) -> None:
    row = only(read_text(tmp_path, trace(event(name, cat))))
    assert (row["kind"], row["subkind"], row["device"]) == (kind, subkind, device)
    assert (row["symbol"].function, row["symbol"].module) == (name, module)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        (
            "torch/nn/modules/module.py(1534): _call_impl",
            ("_call_impl", "torch.nn.modules.module", "torch/nn/modules/module.py", 1534),
        ),
        ("/home/u/job/train.py(12): main", ("main", "train", "/home/u/job/train.py", 12)),
        (
            "/opt/v/lib/python3.11/site-packages/a/__init__.py(3): f",
            ("f", "a", "/opt/v/lib/python3.11/site-packages/a/__init__.py", 3),
        ),
        ("/usr/lib/python3.11/threading.py(1): run", ("run", "threading", "/usr/lib/python3.11/threading.py", 1)),
        ("train.py(1): <module>", ("<module>", "train", "train.py", 1)),
        ("<frozen importlib._bootstrap>(1007): _find", ("_find", "importlib._bootstrap", "<frozen importlib._bootstrap>", 1007)),
        ("<string>(1): f", ("f", "<string>", "<string>", 1)),
        ("nn.Module: Conv2d_0", ("nn.Module: Conv2d_0", "python_function", "", 0)),
        ("<built-in method conv2d of type object at 0x7f12ab>", ("<built-in method conv2d of type object>", "builtins", "", 0)),
    ],
)
def test_python_functions(name: str, symbol: tuple[str, str, str, int], tmp_path: Path) -> None:
    found = only(read_text(tmp_path, trace(event(name, "python_function"))))["symbol"]
    assert (found.function, found.module, found.file, found.line) == symbol


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ({"In msg nelems": 100, "Out msg nelems": 800, "dtype": "Float"}, 400),
        ({"In msg nelems": 100, "dtype": "BFloat16"}, 200),
        ({"In msg nelems": 0, "Out msg nelems": 3, "dtype": "Long"}, 24),
        ({"In msg nelems": "7", "dtype": "Byte"}, 7),
        ({"In msg nelems": 100, "dtype": "Strange"}, 0),
        ({"In msg nelems": [1], "dtype": "Float"}, 0),
        ({}, 0),
    ],
)
def test_bytes_of_a_collective(args: dict[str, Any], size: int, tmp_path: Path) -> None:
    row = only(read_text(tmp_path, trace(event("ncclDevKernel_AllReduce", "kernel", args={"device": 2, "stream": 20, **args}))))
    assert (row["bytes"], row["device"], row["tid"]) == (size, 2, 20)


@pytest.mark.parametrize(
    ("more", "pid", "tid", "device"),
    [
        ({"pid": 3, "tid": "stream 7", "args": {}}, 3, 7, 3),
        ({"pid": 3, "tid": "stream 7 ", "args": {"device": 4, "stream": 9}}, 3, 9, 4),
        ({"pid": "CUDA functions", "tid": 1, "cat": "", "args": {}}, None, 1, 1),
        ({"pid": 0, "tid": 7}, 0, 7, 0),
        ({"pid": 0, "tid": 7, "args": {"device": 70_000, "stream": -1}}, 0, 7, -1),
        ({"pid": "python 123", "tid": "thread 5 (python)", "cat": "x"}, 123, 5, -1),
        ({"pid": -1, "tid": 139_926_520_725_504, "cat": "x"}, 0xFFFFFFFF, None, -1),
        ({"pid": 1.0, "tid": None, "cat": "x"}, 1, 0, -1),
        ({"pid": 1, "tid": 2, "cat": "x", "args": {"device": 0, "stream": 31}}, 1, 31, 0),
        ({"pid": "Spans", "tid": "PyTorch Profiler", "cat": "Trace"}, None, None, -1),
        ({"pid": "", "tid": "", "args": "odd"}, None, None, -1),
    ],
)
def test_places(more: dict[str, Any], pid: int | None, tid: int | None, device: int, tmp_path: Path) -> None:
    row = only(read_text(tmp_path, trace({**event("f", "kernel"), **more})))
    for found, expected in ((row["pid"], pid), (row["tid"], tid)):
        # What has no number gets one that no process has, the same every time.
        assert found == expected if expected is not None else 1 << 29 <= found < 1 << 30
    assert row["device"] == device


def test_processes_of_the_first_profiler(tmp_path: Path) -> None:
    row = only(
        read_text(
            tmp_path, '[{"name": "aten::add", "ph": "X", "ts": 1.5, "dur": 2.25, "tid": 1, "pid": "CPU functions", "args": {}}]'
        )
    )
    assert (row["kind"], row["start_ns"], row["duration_ns"]) == (Kind.CPU_OP, 1500, 2250)


@pytest.mark.parametrize(
    ("args", "link"),
    [
        ({"correlation": 5, "External id": 9}, 5),
        ({"External id": 9}, 9),
        ({"external id": 9}, 9),
        ({"correlation": 0, "External id": 9}, 9),
        ({"correlation": (1 << 64) - 1}, (1 << 64) - 1),
        ({"correlation": -1}, 0),
        ({"correlation": "77"}, 77),
        ({"correlation": 1 << 70}, 0),
    ],
)
def test_links(args: dict[str, Any], link: int, tmp_path: Path) -> None:
    assert only(read_text(tmp_path, trace(event("f", "kernel", args=args)))).get("link", 0) == link
