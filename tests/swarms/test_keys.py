"""A frame key is the same in the next process and the next build, and never the same for two functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.kinds import Copy, Futex, Kind
from sofa_otel.core.symbols import Symbol
from sofa_otel.processors.group.boilerplate import is_boilerplate, is_import
from sofa_otel.processors.group.keys import FrameKey, family_key, frame_key, native_name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>(int, float*)",
            "at::native::vectorized_elementwise_kernel",
        ),
        ("gemm_kernel.constprop.0", "gemm_kernel"),
        ("do_work.isra.0.part.3", "do_work"),
        ("do_work.cold", "do_work"),
        ("memcpy@@GLIBC_2.14", "memcpy"),
        ("std::vector<int, std::allocator<int>>::push_back(int const&)", "std::vector::push_back"),
        ("(anonymous namespace)::worker(void*)", "{anon}::worker"),
        ("Foo::operator<<(std::ostream&) const", "Foo::operator<<"),
        ("Foo::operator()(int) const", "Foo::operator()"),
        ("Foo::operator->()", "Foo::operator->"),
        ("layer12_forward", "layer12_forward"),
        ("work3", "work3"),
        ("<T as core::fmt>", "<T as core::fmt>"),
    ],
)
def test_native_names(raw: str, name: str) -> None:
    assert native_name(raw) == name


def test_python_names_keep_everything_but_the_line() -> None:
    a = frame_key(Symbol("Net.forward.<locals>.<lambda>", "net", 14, "/a/net.py", 3))
    assert a.text == "net!Net.forward.<locals>.<lambda>"
    assert a.identity == frame_key(Symbol("Net.forward.<locals>.<lambda>", "net", 20, "/b/net.py", 4)).identity
    assert frame_key(Symbol("main", "__main__", 1, "/x/train.py", 1)).module == "train"
    assert frame_key(Symbol("main", "__main__", 1, "/x/pkg/__main__.py", 1)).module == "pkg.__main__"


def test_a_counter_after_a_hash_sign_goes_and_other_digits_stay() -> None:
    assert frame_key(Symbol("ProfilerStep#7", "m")) == frame_key(Symbol("ProfilerStep#8", "m"))
    assert frame_key(Symbol("block7", "m")) != frame_key(Symbol("block8", "m"))


def test_addresses_are_module_relative_pages() -> None:
    a, b = Symbol("0x7f001234", "/usr/lib/libx.so.2.1", 0x1234), Symbol("0x7fff1238", "/opt/libx.so.2.3", 0x1238)
    assert frame_key(a) == frame_key(b)
    assert frame_key(a) != frame_key(Symbol("0x7f001234", "libx.so", 0x9234))


_NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}(\.[A-Za-z_][A-Za-z0-9_]{0,8})?", fullmatch=True)


@given(_NAME, _NAME, st.booleans())
def test_two_functions_never_share_a_key(one: str, two: str, python: bool) -> None:
    file = "/x/m.py" if python else ""
    a, b = frame_key(Symbol(one, "m", 0, file, 1)), frame_key(Symbol(two, "m", 5, file, 2))
    if not python and any(f".{suffix}" in name for name in (one, two) for suffix in ("cold", "isra", "part", "clone", "llvm")):
        return
    assert (a.identity == b.identity) == (one == two)


@given(st.text(max_size=60))
def test_any_name_can_be_normalised(name: str) -> None:
    key = frame_key(Symbol(name, "libx.so", 4096))
    assert key.function
    assert native_name(name) is not None


@pytest.mark.parametrize(
    ("kind", "subkind", "symbol", "text"),
    [
        (Kind.SYSCALL, 0, Symbol("pread64", "syscall"), "syscall!read"),
        (Kind.SYSCALL, Futex.WAIT, Symbol("futex", "syscall"), "syscall!futex wait"),
        (Kind.SYSCALL, 0, Symbol("io_uring_enter", "syscall"), "syscall!io_uring_enter"),
        (Kind.GPU_KERNEL, 0, Symbol("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)", ""), "kernel!nccl"),
        (Kind.GPU_KERNEL, 0, Symbol("volta_sgemm_128x64_nn", ""), "kernel!gemm"),
        (Kind.GPU_KERNEL, 0, Symbol("my_kernel<int>(float*)", ""), "kernel!my_kernel"),
        (Kind.GPU_COPY, Copy.D2H, Symbol("Memcpy DtoH (Device -> Pinned)", ""), "copy!d2h"),
        (Kind.COLLECTIVE, 0, Symbol("all_reduce", "torch.distributed"), "torch.distributed!all_reduce"),
        (Kind.PYTHON_CALL, 3, Symbol("optimizer.step", "torch"), "torch!optimizer.step"),
    ],
)
def test_events_without_a_stack_have_a_family(kind: Kind, subkind: int, symbol: Symbol, text: str) -> None:
    assert family_key(kind, subkind, symbol).text == text


def test_plumbing_is_skipped_and_imports_are_one_thing() -> None:
    assert is_boilerplate(FrameKey("torch.nn.modules.module", "Module._wrapped_call_impl", 0, "/t/module.py"))
    assert is_boilerplate(FrameKey("threading", "Thread._bootstrap_inner", 0, "/t/threading.py"))
    assert is_boilerplate(FrameKey("m", "main.<locals>.<listcomp>", 0, "/x/m.py"))
    assert not is_boilerplate(FrameKey("threading", "Condition.wait", 0, "/t/threading.py"))
    assert is_import(FrameKey("importlib._bootstrap", "_find_and_load", 0, "<frozen importlib._bootstrap>"))
