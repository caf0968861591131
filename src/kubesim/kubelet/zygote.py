"""The zygote: a small Python process from which the shims of one node are forked.

Thirty containers must not cost thirty interpreters: the zygote has imported what a shim needs, and a fork shares it.
It is no child of the daemon (it leaves by a double fork into a session of its own), knows nothing of pods, and keeps
no state: when it is killed, the shims live on and the daemon starts another one. One zygote runs per node folder, under
a lock. It ends when it is told to, when its folder has gone, or when it was of no use to anybody for a while.

    python -P -m kubesim.kubelet.zygote ROOT     returns as soon as the zygote of ROOT listens
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys
import time

from kubesim.kubelet import containerfiles, linux, proc, shim, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FOLDER = "zygote"
SOCKET = "sock"
IDENTITY = "zygote.json"
LOG = "log"
LOCK = "lock"
IDLE_LIMIT = 60.0
"""Seconds without a client and without a shim after which the zygote ends by itself."""
LOOK = 5.0


class Zygote:
    """Waits for requests and forks."""

    def __init__(self, folder: str, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._server = wire.listen(folder, SOCKET)
        self._clients: dict[int, socket.socket] = {}
        self._children: set[int] = set()
        self._useful_at = time.monotonic()
        self._wakeups, self._far_wakeups = socket.socketpair()

    def run(self) -> None:
        """Serve until there is no reason to."""
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        self._catch_children(poll)
        while os.path.isdir(self._folder) and time.monotonic() - self._useful_at < IDLE_LIMIT:
            for descriptor, _ in poll.poll(LOOK * 1000):
                if descriptor == self._server.fileno():
                    self._accept(poll)
                elif descriptor == self._wakeups.fileno():
                    self._wakeups.recv(4096)
                elif self._serve(descriptor, poll) == "quit":
                    return
            self._reap()
            if self._clients or self._children:
                self._useful_at = time.monotonic()

    def _catch_children(self, poll: select.poll) -> None:
        for end in (self._wakeups, self._far_wakeups):
            end.setblocking(False)
        signal.set_wakeup_fd(self._far_wakeups.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll.register(self._wakeups, select.POLLIN)

    def _accept(self, poll: select.poll) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:
            return
        client.setblocking(False)
        self._clients[client.fileno()] = client
        poll.register(client, select.POLLIN)

    def _serve(self, descriptor: int, poll: select.poll) -> str:
        client = self._clients[descriptor]
        try:
            message, received = wire.receive(client)
        except (BlockingIOError, ValueError):
            return ""
        for extra in received:
            os.close(extra)
        operation = "" if message is None else str(message.get("op"))
        if message is not None and operation == "start":
            self._fork(str(message["directory"]), client)
        elif operation in ("ping", "quit"):
            try:
                wire.send(client, {"pid": os.getpid()})
            except OSError:
                return operation  # the client has gone: the answer is of no use to it
        if message is None or operation == "start":  # after a start the connection is the shim's
            poll.unregister(descriptor)
            self._clients.pop(descriptor).close()
        return operation

    def _fork(self, directory: str, client: socket.socket) -> None:
        pid = os.fork()
        if pid != 0:
            self._children.add(pid)
            return
        try:
            signal.set_wakeup_fd(-1)
            os.close(
                self._lock
            )  # a lock is shared with who inherits it: the next zygote must be able to take it
            for end in (self._server, self._wakeups, self._far_wakeups):
                end.close()
            for other in self._clients.values():
                if other is not client:
                    other.close()
        finally:
            shim.main(directory, client)

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._children.clear()
                return
            if pid == 0:
                return
            self._children.discard(pid)


def main(root: str) -> int:
    """Leave the caller by a double fork; return in the caller when the zygote listens (0) or cannot (1)."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    between = os.fork()
    if between != 0:
        os.close(write_end)
        os.waitpid(between, 0)
        return 0 if os.read(read_end, 1) == b"1" else 1
    os.close(read_end)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGQUIT):  # ignored, where a script started us in its background
        signal.signal(number, signal.SIG_DFL)
    return _serve(os.path.join(os.path.abspath(root), FOLDER), write_end)


def _serve(folder: str, ready: int) -> NoReturn:
    code = 1
    try:
        os.umask(0o077)
        os.makedirs(folder, exist_ok=True)
        lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _redirect(os.path.join(folder, LOG))
        os.chdir("/")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        linux.set_name("kubesim-zygote")
        zygote = Zygote(folder, lock)
        identity = proc.identify(os.getpid())
        assert identity is not None
        containerfiles.write_json(os.path.join(folder, IDENTITY), identity.to_json())
        os.write(ready, b"1")
        os.close(ready)
        gc.collect()
        gc.disable()
        gc.freeze()
        zygote.run()
        code = 0
    except BlockingIOError:
        os.write(ready, b"1")  # another zygote serves this folder
        code = 0
    except BaseException as error:
        shim.report(error)
    finally:
        os._exit(code)


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(nothing)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
