"""A disk with a volatile write cache, as real ones have, which loses it in a power cut.

QEMU's own disk is a file in the machine's page cache, which outlives a killed QEMU: everything that the guest's kernel
ever handed over is there afterwards. Here that holds only for what was flushed (NBD_CMD_FLUSH, which is what becomes of
a guest's fsync, or FUA). Of what was written since, a power cut takes pieces of 4 KiB, each with a probability: 0 takes
none of it (as killing QEMU does), 1 all of it, anything between also tears and reorders writes.

A program, one for each VM: serves FILE at SOCKET to whoever connects, one at a time, as an NBD server with the least of
the protocol that QEMU wants (github.com/NetworkBlockDevice/nbd, doc/proto.md). On stdin a line "PROBABILITY SEED" is
the power cut of a disk whose VM is gone, "PROBABILITY SEED PATH" a picture: PATH becomes what a power cut at this
moment would leave, and the VM, which waits for its disk meanwhile, goes on. Answers "LOST PIECES" on stdout. Ends with
stdin.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import struct
import subprocess
import sys

PIECE = 4096
MOST = 32 << 20  # bytes that the cache holds; above, the disk writes the oldest to its plates by itself
OPTION, REPLY = 0x49484156454F5054, 0x0003E889045565A9  # magic numbers of the protocol
REQUEST, ANSWER = 0x25609513, 0x67446698
GO, ACK, INFO, UNSUPPORTED = 7, 1, 3, (1 << 31) + 1
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FLAGS = 1 | 4 | 8  # has flags, flush, FUA
FUA = 1
EINVAL = 22


class Disk:
    """The plates (a file) and what is not safe on them yet: (offset, what was there before), the oldest first."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.unsafe: list[tuple[int, bytes]] = []
        self.bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        before = os.pread(self.fd, len(data), offset)
        self.unsafe.append((offset, before))
        self.bytes += len(before)
        os.pwrite(self.fd, data, offset)
        drop = 0
        while self.bytes > MOST:
            self.bytes -= len(self.unsafe[drop][1])
            drop += 1
        del self.unsafe[:drop]

    def flush(self) -> None:
        self.unsafe.clear()
        self.bytes = 0

    def cut(self, probability: float, seed: int) -> tuple[int, int]:
        """The power is gone: (pieces lost, pieces that were not safe)."""
        told = self._lose(self.fd, probability, seed)
        self.flush()
        return told

    def picture(self, path: str, probability: float, seed: int) -> tuple[int, int]:
        """The same on a copy."""
        subprocess.run(["cp", "--sparse=always", f"/proc/{os.getpid()}/fd/{self.fd}", path], check=True)
        fd = os.open(path, os.O_RDWR)
        try:
            return self._lose(fd, probability, seed)
        finally:
            os.close(fd)

    def _lose(self, fd: int, probability: float, seed: int) -> tuple[int, int]:
        choice = random.Random(seed)
        pieces: dict[int, list[tuple[int, bytes]]] = {}  # piece -> [(offset, what was there before)] in order
        for offset, before in self.unsafe:
            at = 0
            while at < len(before):
                step = min(PIECE - (offset + at) % PIECE, len(before) - at)
                pieces.setdefault((offset + at) // PIECE, []).append((offset + at, before[at : at + step]))
                at += step
        lost = total = 0
        for writes in pieces.values():
            total += len(writes)
            while writes and choice.random() < probability:  # the last ones first: a later write covers an earlier one
                offset, before = writes.pop()
                os.pwrite(fd, before, offset)
                lost += 1
        return lost, total


class Server:
    def __init__(self, disk: Disk, path: str) -> None:
        self.disk = disk
        directory, name = os.path.split(path)
        where = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"/proc/self/fd/{where}/{name}")  # a socket's path has 107 characters at most
        self.listener.listen(1)
        self.peer: socket.socket | None = None

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.listener:
                        self.peer, _ = self.listener.accept()
                        if self.greet(self.peer):
                            selector.register(self.peer, selectors.EVENT_READ)
                        else:
                            self.peer.close()
                    elif key.fd == sys.stdin.fileno():
                        line = sys.stdin.readline()
                        if not line:
                            return
                        probability, seed, *path = line.rstrip("\n").split(" ", 2)
                        how = (float(probability), int(seed))
                        print(*(self.disk.picture(path[0], *how) if path else self.disk.cut(*how)), flush=True)
                    elif self.peer is not None and not self.request(self.peer):
                        selector.unregister(self.peer)
                        self.peer.close()

    def greet(self, peer: socket.socket) -> bool:
        try:
            peer.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))  # fixed newstyle, no zeroes
            take(peer, 4)
            while True:
                magic, option, length = struct.unpack(">QII", take(peer, 16))
                take(peer, length)
                if magic != OPTION:
                    return False
                if option == GO:
                    told = struct.pack(">HQH", 0, self.disk.size, FLAGS)
                    peer.sendall(struct.pack(">QIII", REPLY, option, INFO, len(told)) + told)
                    peer.sendall(struct.pack(">QIII", REPLY, option, ACK, 0))
                    return True
                peer.sendall(struct.pack(">QIII", REPLY, option, UNSUPPORTED, 0))
        except OSError:
            return False

    def request(self, peer: socket.socket) -> bool:
        """One; False when the VM is gone. A request that did not come whole is none."""
        try:
            magic, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", take(peer, 28))
            if magic != REQUEST or kind == DISCONNECT:
                return False
            data, error = b"", 0
            if kind == READ:
                data = self.disk.read(offset, length)
            elif kind == WRITE:
                self.disk.write(offset, take(peer, length))
            elif kind != FLUSH:
                error = EINVAL
            if kind == FLUSH or flags & FUA:
                self.disk.flush()
            peer.sendall(struct.pack(">IIQ", ANSWER, error, handle) + data)
            return True
        except OSError:
            return False


def take(peer: socket.socket, length: int) -> bytes:
    """Exactly so many bytes. Raises OSError: there are no more."""
    if length == 0:
        return b""
    data = peer.recv(length, socket.MSG_WAITALL)
    while len(data) < length:
        more = peer.recv(length - len(data), socket.MSG_WAITALL)
        if not more:
            raise ConnectionError("the VM is gone")
        data += more
    return data


if __name__ == "__main__":
    Server(Disk(sys.argv[1]), sys.argv[2]).serve()
