"""What an event is, from its category and its name: kind, direction, symbol. All versions of PyTorch, all makers of devices."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Copy, Kind
from sofa_otel.core.symbols import Symbol, SymbolTable


class Family(NamedTuple):
    """A category: its kind, its name in the newest version, and whether it happens on a device."""

    kind: Kind
    module: str
    device: bool = False


_FAMILIES: Final[dict[str, Family]] = {
    name: family
    for family, names in (
        (Family(Kind.CPU_OP, "cpu_op"), "cpu_op operator"),
        (Family(Kind.SPAN, "user_annotation"), "user_annotation"),
        (Family(Kind.SPAN, "gpu_user_annotation", True), "gpu_user_annotation"),
        (Family(Kind.GPU_KERNEL, "kernel", True), "kernel concurrent_kernel mtia_ccp_events hpu_op"),
        (Family(Kind.GPU_COPY, "copy", True), "gpu_memcpy memcpy gpu_memset memset"),
        (Family(Kind.GPU_RUNTIME, "cuda_runtime"), "cuda_runtime runtime"),
        (Family(Kind.GPU_SYNC, "cuda_sync", True), "cuda_sync sync"),
        (Family(Kind.COLLECTIVE, "collective"), "collective_comm"),
        (Family(Kind.PYTHON_CALL, ""), "python_function"),
    )
    for name in names.split()
}  # fmt: skip
_RUNTIME: Final = re.compile(r".*_(?:runtime|driver)")
_SYNC: Final = re.compile(r".*_sync")
_MEMORY: Final = "[memory]"

_STEP: Final = re.compile(r"ProfilerStep\s*#\s*\d+")
_WAITS: Final = re.compile(r"synchroni[sz]e", re.I)
_COMMUNICATES: Final = re.compile(
    r"[nrhm]s?ccl|oneccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce|nvshmem", re.I
)
_ON_CPU: Final = re.compile(r"(?:gloo|mpi):")
_COPIES: Final = (
    (Copy.P2P, re.compile(r"PtoP|P2P|Peer", re.I)),
    (Copy.H2D, re.compile(r"HtoD|H2D|M2D|HostToDevice|HtoA", re.I)),
    (Copy.D2H, re.compile(r"DtoH|D2H|D2M|DeviceToHost|AtoH", re.I)),
    (Copy.D2D, re.compile(r"DtoD|D2D|DeviceToDevice|DtoA|AtoD|AtoA", re.I)),
)
_PYTHON: Final = re.compile(r"(.+\.py[xw]?|<.+>)\((\d+)\): (.+)", re.S)
_PACKAGES: Final = re.compile(r".*(?:site|dist)-packages/|.*/lib/python\d[\d.]*/")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_FROZEN: Final = re.compile(r"<frozen ([\w.]+)>")

ELEMENT_BYTES: Final = {
    name: size
    for size, names in (
        (1, "byte char bool int8 uint8 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu qint8 quint8"),
        (2, "half bfloat16 short float16 int16 uint16"),
        (4, "float int float32 int32 uint32 qint32 complexhalf"),
        (8, "double long float64 int64 uint64 complexfloat"),
        (16, "complexdouble"),
    )
    for name in names.split()
}  # fmt: skip
"""Bytes of an element by PyTorch's name of the type, in small letters."""

DEVICE, MESSAGE, MEMORY, PERHAPS = 1, 2, 4, 8
"""What must be looked for in an event's arguments: device and stream, the size of a message, of an allocation; or whether it
happens on a device at all."""

_LOOKS: Final = np.dtype([("kind", np.uint8), ("subkind", np.uint8), ("look", np.uint8), ("symbol", np.uint32)])


class Names(dict[tuple[Any, Any], int]):
    """Number of each (category, name); :attr:`table` says what the numbers mean.

    Args:
        symbols: Where names are interned.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        super().__init__()
        self._symbols = symbols
        self._table = np.zeros(64, _LOOKS)

    @property
    def table(self) -> NDArray[Any]:
        """``kind, subkind, look`` (``u8``) and ``symbol`` (``u32``) by number."""
        return self._table[: len(self)]

    def __missing__(self, key: tuple[Any, Any]) -> int:
        number = len(self)
        if number == len(self._table):
            self._table = np.concatenate([self._table, np.zeros(number, _LOOKS)])
        kind, subkind, look, symbol = describe(str(key[0] or ""), str(key[1]))
        self._table[number] = (kind, subkind, look, self._symbols.intern_symbol(symbol))
        self[key] = number
        return number


def family(category: str) -> Family:
    """What a category stands for; an unknown one holds spans."""
    name = category.lower()
    found = _FAMILIES.get(name)
    if found is not None:
        return found
    if _RUNTIME.fullmatch(name):
        return Family(Kind.GPU_RUNTIME, name)
    if _SYNC.fullmatch(name):
        return Family(Kind.GPU_SYNC, name, True)
    return Family(Kind.SPAN, category)


def describe(category: str, name: str) -> tuple[Kind, int, int, Symbol]:
    """Kind, subkind, what to look for in the arguments, and symbol."""
    kind, module, device = family(category)
    look = DEVICE if device else 0
    if _STEP.fullmatch(name):
        return Kind.MARK, 0, look, Symbol(name, module)
    if kind == Kind.GPU_KERNEL and _COMMUNICATES.search(name):
        return Kind.COLLECTIVE, 0, look | MESSAGE, Symbol(name, "collective")
    if kind == Kind.COLLECTIVE:
        return kind, 0, PERHAPS | MESSAGE, Symbol(name, module)
    if kind == Kind.GPU_COPY:
        return kind, _direction(category, name), look, Symbol(name, module)
    if kind == Kind.GPU_RUNTIME and _WAITS.search(name):
        return Kind.GPU_SYNC, 0, look, Symbol(name, module)
    if kind == Kind.PYTHON_CALL:
        return kind, 0, look, python_symbol(name)
    if not device and kind in {Kind.CPU_OP, Kind.SPAN} and _ON_CPU.match(name):
        # Gloo and MPI move the data on the thread that is seen here; nccl:… only puts a kernel on a stream.
        return Kind.COLLECTIVE, 0, MESSAGE, Symbol(name, "collective")
    if name == _MEMORY:
        return Kind.MEMORY, 0, MEMORY, Symbol(name, "memory")
    if kind == Kind.SPAN and not device and module != "user_annotation":
        look = PERHAPS
    return kind, 0, look, Symbol(name, module)


def python_symbol(name: str) -> Symbol:
    """``torch/nn/modules/module.py(1534): _call_impl`` and the other ways a Python function is named."""
    found = _PYTHON.fullmatch(name)
    if found is None:
        return Symbol(_ADDRESS.sub("", name), "builtins" if name.startswith("<built-in") else "python_function")
    file, line, function = found[1], int(found[2]), found[3]
    if file.startswith("<"):
        frozen = _FROZEN.fullmatch(file)
        return Symbol(function, frozen[1] if frozen else file, 0, file, line & 0x7FFFFFFF)
    path = _PACKAGES.sub("", file.replace("\\", "/"))
    path = path.rsplit("/", 1)[-1] if path.startswith("/") or ":" in path[:2] else path
    module = path.rpartition(".")[0].removesuffix("/__init__").removeprefix("./").replace("/", ".")
    return Symbol(function, module, 0, file, line & 0x7FFFFFFF)


def _direction(category: str, name: str) -> int:
    if "memset" in category.lower() or "memset" in name.lower():
        return Copy.MEMSET
    return next((direction for direction, rule in _COPIES if rule.search(name)), Copy.UNKNOWN)
