"""The way out: a Unix socket that never blocks, with a bounded queue in front of it.

Whole frames or nothing. When the queue is full (no reader, or one that has stalled) new frames are dropped and counted, and what
was queued first is kept; a frame that has begun to leave is always finished. ``_socket`` is used as it is, because ``socket``
costs milliseconds of imports.
"""

import _socket
import os
from collections import deque

from _sofa_probe.descriptors import raised

QUEUE_BYTES = 4 << 20
RETRY_NS = (1000000000, 2000000000, 4000000000, 8000000000, 15000000000, 30000000000)


class Link:
    """One connection to the agent, made and remade as needed.

    Attributes:
        connected: A connection stands.
        dropped: Frames dropped so far.
        overflow: Frames were dropped: until the tables start anew nothing else is queued.
        lost: A connection ended; the owner has to start its tables anew.
    """

    def __init__(self, path):
        self.path = path
        self.connected = False
        self.dropped = 0
        self.overflow = False
        self.lost = False
        self._queue = deque()
        self._bytes = 0
        self._offset = 0
        self._socket = None
        self._inode = None
        self._retry = 0
        self._next = 0

    def connect(self, now):
        """True when a new connection was made just now (HELLO must be the first thing sent)."""
        if self.connected or now < self._next:
            return False
        try:
            made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError:
            self._later(now)
            return False
        try:
            made.setblocking(False)
            made.connect(self.path)
            made = _out_of_the_way(made)
            made.setblocking(False)
            stat = os.fstat(made.fileno())
        except OSError:
            made.close()
            self._later(now)
            return False
        self._socket, self._inode = made, (stat.st_dev, stat.st_ino)
        self.connected, self._retry, self._offset = True, 0, 0
        return True

    def _later(self, now):
        self._next = now + RETRY_NS[min(self._retry, len(RETRY_NS) - 1)]
        self._retry += 1

    def first(self, data):
        """Put a frame in front of everything queued (HELLO)."""
        self._queue.appendleft(data)
        self._bytes += len(data)

    def put(self, data):
        """Queue one frame; False when it was dropped."""
        if self.overflow or self._bytes + len(data) > QUEUE_BYTES:
            self.overflow = True
            self.dropped += 1
            return False
        self._queue.append(data)
        self._bytes += len(data)
        return True

    def clear(self):
        """Throw the queue away (a new reader cannot use the rest of an old conversation)."""
        self.dropped += len(self._queue)
        self._queue.clear()
        self._bytes = self._offset = 0

    def drained(self):
        """The queue is short enough to start again after an overflow."""
        return self._bytes < QUEUE_BYTES // 4

    def flush(self, now):
        """Send what the socket takes without waiting."""
        while self.connected and self._queue:
            head = self._queue[0]
            try:
                if not self._ours():
                    raise OSError("descriptor taken over")
                count = self._socket.send(memoryview(head)[self._offset :], _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.close(now)
                return
            self._offset += count
            if self._offset == len(head):
                self._queue.popleft()
                self._bytes -= len(head)
                self._offset = 0

    def receive(self, now):
        """Bytes the agent sent, b"" when none."""
        if not self.connected:
            return b""
        try:
            if not self._ours():
                raise OSError("descriptor taken over")
            data = self._socket.recv(65536, _socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            data = b""
        if not data:
            self.close(now)
        return data

    def _ours(self):
        # A program that closes every descriptor (daemons do) also closes ours; the number may be its own by now.
        stat = os.fstat(self._socket.fileno())
        return (stat.st_dev, stat.st_ino) == self._inode

    def close(self, now=0):
        """End the connection; what is queued for it is lost."""
        if self._socket is not None:
            try:
                if self._ours():
                    self._socket.close()
                else:
                    self._socket.detach()
            except OSError:
                self._socket.detach()
        if self.connected:
            self.clear()
            self._later(now)
            self.lost = True
        self._socket, self.connected = None, False

    def abandon(self):
        """In a forked child: close the parent's descriptor without a word on the wire."""
        self.connected = False
        self.close()
        self._queue.clear()
        self._bytes = self._offset = 0


def _out_of_the_way(made):
    """The same socket at a high descriptor number."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, raised(made.detach()))
