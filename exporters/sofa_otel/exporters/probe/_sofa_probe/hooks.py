"""Library calls with their duration: optimiser step, DataLoader fetch, backward, checkpoint and collectives of PyTorch.

Nothing is ever imported for this: once the program itself has imported torch completely, the optimiser gets its public step
hooks. Everything else is watched without a change to torch on Python 3.12 and later (``sys.monitoring``); before that the
functions are wrapped (:mod:`wrapping`).
"""

import sys
from _thread import get_ident, get_native_id
from array import array
from time import monotonic_ns

from _sofa_probe import wire

PYTHON_CALL, COLLECTIVE, HOOK = 3, 11, 3
MAX_ROWS = 20000
TORCH, DISTRIBUTED = "torch", "torch.distributed"

CALLS = (
    ("torch.utils.data.dataloader", "_BaseDataLoaderIter", "__next__", "dataloader.next"),
    ("torch.autograd", "", "backward", "autograd.backward"),
    ("torch.serialization", "", "save", "checkpoint.save"),
)
"""Module, class ("" for a function of the module), attribute, name of the event."""

COLLECTIVES = (
    "all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "all_to_all", "all_to_all_single", "barrier",
    "broadcast", "broadcast_object_list", "gather", "irecv", "isend", "recv", "reduce", "reduce_scatter",
    "reduce_scatter_tensor", "scatter", "send",
)  # fmt: skip
DISTRIBUTED_MODULE = "torch.distributed.distributed_c10d"
MAX_OPTIMIZERS = 8


class Point:
    """One kind of call: collects rows of begin, duration, bytes and thread.

    Attributes:
        symbol: Function, module and number (which optimiser) of its events.
        kind: Event kind.
    """

    def __init__(self, function, module, kind, number=0):
        self.symbol, self.kind = (function, module, number), kind
        self.rows = array("q")
        self.dropped = 0
        self._begun = {}

    def enter(self, size=0):
        """A call begins on this thread."""
        self._begun[get_ident()] = (monotonic_ns(), size)

    def leave(self):
        """It ends; a call that raised has no end and is forgotten at the next one."""
        begun = self._begun.pop(get_ident(), None)
        if begun is not None:
            if len(self.rows) < 4 * MAX_ROWS:
                self.rows.extend((begun[0], monotonic_ns() - begun[0], begun[1], get_native_id()))
            else:
                self.dropped += 1


class Hooks:
    """Installs what can be installed, and sends what was seen."""

    def __init__(self, tables, monitor):
        self.tables, self._monitor = tables, monitor
        self.points = []
        self.events = 0
        self._pending = list(CALLS) + [(DISTRIBUTED_MODULE, "", name, name) for name in COLLECTIVES]
        self._handles = []
        self._undo = []
        self._optimizer = False
        self._off = False

    @property
    def exact(self):
        """The optimiser tells every step from now on."""
        return bool(self._handles)

    def tick(self, now):
        """Look whether torch is there and complete; cheap when it is not."""
        if self._off or not (self._pending or not self._optimizer) or not _complete("torch"):
            return
        if not self._optimizer:
            self._hook_optimizer()
        for entry in list(self._pending):
            if _complete(entry[0]):
                self._pending.remove(entry)
                try:
                    self._install(*entry)
                except Exception:
                    continue

    def _hook_optimizer(self):
        module = sys.modules.get("torch.optim.optimizer")
        if module is None or not _complete("torch.optim.optimizer"):
            return
        self._optimizer = True
        before = getattr(module, "register_optimizer_step_pre_hook", None)
        after = getattr(module, "register_optimizer_step_post_hook", None)
        if before is None or after is None:
            return
        from weakref import WeakKeyDictionary, WeakValueDictionary

        points = [self._point("optimizer.step", TORCH, PYTHON_CALL, number) for number in range(MAX_OPTIMIZERS)]
        alive = WeakValueDictionary()
        numbers = WeakKeyDictionary()

        def number_of(optimizer):
            # Two optimisers of one program (a GAN's) are two beats; one that replaces a dead one goes on with its number.
            number = numbers.get(optimizer)
            if number is None:
                free = [one for one in range(MAX_OPTIMIZERS - 1) if one not in alive]
                number = numbers[optimizer] = free[0] if free else MAX_OPTIMIZERS - 1
                alive[number] = optimizer
            return number

        def sofa_before_step(optimizer, args, kwargs):
            points[number_of(optimizer)].enter()

        def sofa_after_step(optimizer, args, kwargs):
            points[number_of(optimizer)].leave()

        # torch.compile must call these, not look into them.
        sofa_before_step._torchdynamo_disable = sofa_after_step._torchdynamo_disable = True
        self._handles += [before(sofa_before_step), after(sofa_after_step)]

    def _point(self, function, module, kind, number=0):
        found = Point(function, module, kind, number)
        self.points.append(found)
        return found

    def _install(self, module_name, class_name, attribute, name):
        owner = sys.modules[module_name]
        if class_name:
            owner = getattr(owner, class_name)
        function = owner.__dict__[attribute]
        collective = module_name == DISTRIBUTED_MODULE
        point = self._point(name, DISTRIBUTED if collective else TORCH, COLLECTIVE if collective else PYTHON_CALL)
        if self._monitor is not None and self._monitor.active:
            while hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            self._monitor.watch(function.__code__, point, collective)
            return
        from _sofa_probe import wrapping

        owners = [owner] + [sys.modules[other] for other in ((DISTRIBUTED,) if collective else ()) if other in sys.modules]
        if name == "checkpoint.save":
            owners.append(sys.modules["torch"])
        self._undo += wrapping.install(owners, attribute, function, point, collective)

    def drain(self):
        """One CALLS frame of everything since the last time."""
        columns = (array("q"), array("q"), array("q"), array("I"), array("I"), array("I"), array("B"), array("B"))
        for point in self.points:
            count = len(point.rows) // 4
            if not count:
                continue
            rows = point.rows[: 4 * count]
            del point.rows[: 4 * count]
            symbol = self.tables.named(*point.symbol)
            for column, values in zip(columns, (rows[0::4], rows[1::4], rows[2::4])):
                column.extend(values)
            for column, value in zip(columns[3:], (None, symbol, 0, point.kind, HOOK)):
                column.extend([value] * count if value is not None else [tid & 0xFFFFFFFF for tid in rows[3::4]])
        self.events += len(columns[0])
        return [wire.rows(wire.CALLS, columns)] if columns[0] else []

    def request(self, mode, bursts, names):
        """Hooks stay: they cost nothing between calls."""

    def restart(self):
        """Symbols are named at every drain."""

    def stats(self):
        """Own account."""
        return [("hooks", len(self.points)), ("hook_events", self.events)]

    def close(self):
        """Take our hooks back."""
        self._off = True
        for handle in self._handles:
            handle.remove()
        for undo in self._undo:
            undo()
        self._handles, self._undo = [], []

    def abandon(self):
        """In a forked child: the child installs its own."""
        self.close()


def _complete(name):
    """Whether a module has been imported to its end."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and spec is not None and not getattr(spec, "_initializing", False)
