"""Interning inside the probe: code objects, instructions and call paths become small integers, sent once.

Line numbers are computed only when an instruction is first seen: ``f_lasti`` costs nothing, ``f_lineno`` walks a table. All
tables are bounded; at the bound the rest of a stack is cut off at the deepest known frame (coarser, never wrong).
"""

import sys
from array import array

from _sofa_probe import wire

MAX_CODES = 20000
MAX_SYMBOLS = 60000
MAX_PATHS = 150000
MAX_DEPTH = 200
MAX_STACKS = 20000


class Tables:
    """Ids of codes, symbols and paths, with what has not been sent yet."""

    def __init__(self):
        self.full = False
        self.reset()

    def reset(self):
        """Forget everything: ids start at 1 again."""
        self.codes = {}
        self.keep = []
        self.symbols = {}
        self.paths = {}
        self.stacks = {}
        self.sent = [0, 0, 0]
        self.full = False
        self._new_codes = []
        self._new_symbols = (array("I"), array("I"), array("I"))
        self._new_paths = (array("I"), array("I"))

    def code(self, code, module):
        """Id of a code object (0: table full). It is kept alive: its address is its key."""
        found = self.codes.get(id(code))
        if found is None:
            if len(self.keep) >= MAX_CODES:
                self.full = True
                return 0
            found = self._add_code(getattr(code, "co_qualname", code.co_name), module, code.co_filename)
            self.codes[id(code)] = found
            self.keep.append(code)
        return found

    def _add_code(self, function, module, file):
        self._new_codes.append((function, module, file))
        return self.sent[0] + len(self._new_codes)

    def _add_symbol(self, code, offset, line):
        for column, value in zip(self._new_symbols, (code, offset, line)):
            column.append(value)
        return self.sent[1] + len(self._new_symbols[0])

    def symbol(self, code, lasti, line, module):
        """Id of an instruction of ``code``; ``line`` is a number."""
        key = (id(code), lasti)
        found = self.symbols.get(key)
        if found is None:
            owner = self.code(code, module) if len(self.symbols) < MAX_SYMBOLS else 0
            if not owner:
                self.full = True
                return 0
            found = self.symbols[key] = self._add_symbol(owner, lasti if lasti > 0 else 0, line or 0)
        return found

    def named(self, function, module, number=0):
        """Id of a symbol that has no code object (``optimizer.step``); ``number`` tells several of one name apart."""
        key = (function, module, number)
        found = self.symbols.get(key)
        if found is None:
            found = self.symbols[key] = self._add_symbol(self._add_code(function, module, ""), number, 0)
        return found

    def path(self, frame):
        """Id of the call path that ends in ``frame``."""
        key = []
        add = key.append
        at = frame
        while at is not None:
            add(id(at.f_code))
            add(at.f_lasti)
            at = at.f_back
        key = tuple(key)
        found = self.stacks.get(key)
        if found is None:
            found = self._path(frame)
            if len(self.stacks) >= MAX_STACKS:
                self.stacks.clear()
            # The key holds addresses of code objects: safe only while the table keeps every one of them alive.
            if not self.full:
                self.stacks[key] = found
        return found

    def _path(self, frame):
        chain = []
        while frame is not None:
            chain.append(frame)
            frame = frame.f_back
        chain.reverse()
        path = 0
        for frame in chain[-MAX_DEPTH:]:
            symbol = self.symbols.get((id(frame.f_code), frame.f_lasti))
            if symbol is None:
                module = frame.f_globals.get("__name__")
                name = module if isinstance(module, str) else ""
                symbol = self.symbol(frame.f_code, frame.f_lasti, frame.f_lineno, name)
                if not symbol:
                    break
            found = self.paths.get((path, symbol))
            if found is None:
                if len(self.paths) >= MAX_PATHS:
                    self.full = True
                    break
                self._new_paths[0].append(path)
                self._new_paths[1].append(symbol)
                found = self.paths[path, symbol] = self.sent[2] + len(self._new_paths[0])
            path = found
        return path

    def delta(self):
        """Frames that tell the reader what is new."""
        out = []
        sent = self.sent
        if self._new_codes:
            out.append(wire.codes(sent[0] + 1, self._new_codes))
            sent[0] += len(self._new_codes)
            self._new_codes = []
        if self._new_symbols[0]:
            out.append(wire.table(wire.SYMBOLS, sent[1] + 1, self._new_symbols))
            sent[1] += len(self._new_symbols[0])
            self._new_symbols = (array("I"), array("I"), array("I"))
        if self._new_paths[0]:
            out.append(wire.table(wire.PATHS, sent[2] + 1, self._new_paths))
            sent[2] += len(self._new_paths[0])
            self._new_paths = (array("I"), array("I"))
        return out


def threads_by_ident():
    """Map of thread ident to native id, of threads that ``threading`` knows; {} when the program never imported it."""
    module = sys.modules.get("threading")
    try:
        return {ident: thread._native_id for ident, thread in list(module._active.items())}
    except Exception:
        return {}
