"""The shim: the one process that watches over one container.

It starts the container's main process, writes what it prints to the log, starts further commands (exec) at the
daemon's request, and is the subreaper of all of them, so that nothing that the container ever started can leave it.
When the main process has ended, everything else below the shim is killed, the log is completed, and the exit code is
written to a file: whoever asks later, also after a restart of the daemon, finds it there.

It is forked from the zygote, lives in a session of its own and depends on nobody: the daemon may come and go.
It is single-threaded and blocks nowhere but in `poll`. Requests (one packet each, see `wire.py`):

    {"op": "watch"}                               answered by {"exit": {...}} when the container has ended
    {"op": "log", "size": N}                      answered by {"size": M} once the log is longer than N or complete
    {"op": "exec", "argv", "env", "cwd", "tty"}   with stdin, stdout, stderr: {"started": pid}, later {"exit": code}
        {"op": "quiet"}                           answered by {"quiet": true} when no process of its session is left
        {"op": "leave"}                           what still runs of it is let live
    {"op": "attach"}                              with stdout, stderr: {"attached": true} and the way to its stdin
        {"op": "eof"}                             the client's input has ended
    {"op": "stop", "grace": seconds}              TERM to the main process, after the grace KILL to everything
    {"op": "signal", "signal": N}                 to the main process

An exec whose connection ends without `leave` lost its client: its session is hung up, then killed. Only what has
left the session (setsid) or ignores SIGHUP (nohup) lives on, until the container ends.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import time

from kubesim.kubelet import containerfiles, linux, proc, wire
from kubesim.kubelet.containerfiles import Exit, Spec, State
from kubesim.kubelet.crilog import STDERR, STDOUT, LogWriter
from kubesim.kubelet.execution import Execution
from kubesim.kubelet.loop import Loop
from kubesim.kubelet.outlets import Outlet, Source
from kubesim.kubelet.spawn import StartError, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HOME_CHECK = 2.0
"""Seconds between looks whether the container's folder is still there: without it there is nobody to report to."""
KILL_ROUND = 0.01
KILL_LIMIT = 10.0
"""Seconds after which a process that survives SIGKILL (stuck in the kernel) is given up and named."""
ATTACH_FLUSH = 1.0
MOST_LAST_WORDS = 4096
OWN_GRACE = 2.0
"""Seconds that the container gets when the shim itself is asked to end (SIGTERM)."""
NOT_STARTED = 128
"""The exit code of a container whose main process could not be started, as containerd reports it."""


def main(directory: str, starter: socket.socket | None) -> NoReturn:
    """Run the container in `directory` until it has ended. `starter` is who asked, and hears of the start."""
    code = 1
    try:
        os.setsid()
        os.umask(0o077)
        gc.enable()  # what the zygote has made is frozen and stays shared; what is made here is little
        linux.set_name("kubesim-shim")
        lock = os.open(
            os.path.join(directory, containerfiles.LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spec = containerfiles.read_spec(directory)
        if spec is not None and containerfiles.read_exit(directory) is None:
            Shim(directory, spec, starter).run()
            code = 0
    except BlockingIOError:
        code = 0  # another shim has this attempt
    except FileNotFoundError:
        code = 0  # the folder was removed under us; there is nobody to tell
    except BaseException as error:
        report(error)
    finally:
        os._exit(code)


def report(error: BaseException) -> None:
    """Say in the zygote's log what ended this process; `traceback` would cost every shim its memory."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    os.write(2, f"{os.getpid()} {type(error).__name__}: {error} ({' > '.join(places)})\n".encode())


class Shim:
    """One container, from its start to its end."""

    def __init__(self, directory: str, spec: Spec, starter: socket.socket | None) -> None:
        self._directory = directory
        self._spec = spec
        self._starter = starter
        self._loop = Loop()
        self._log = LogWriter(os.path.join(directory, containerfiles.LOG))
        self._sources: list[Source] = []
        self._stdin: int | None = None
        self._outlets: dict[int, Outlet] = {}
        self._connections: dict[int, socket.socket] = {}
        self._watchers: set[int] = set()
        self._log_waiters: dict[int, int] = {}
        self._executions: dict[int, Execution] = {}
        self._main = 0
        self._main_status: int | None = None
        self._started_at = 0.0
        self._kill_at: float | None = None
        self._home_check_at = time.monotonic() + HOME_CHECK

    def run(self) -> None:
        """Start, serve, end."""
        linux.become_subreaper()
        self._loop.catch_signals(self._on_signals)
        server = wire.listen(self._directory, containerfiles.SOCKET)
        try:
            self._start_main()
        except (StartError, OSError) as error:
            self._fail(error)
            return
        self._loop.watch(server.fileno(), lambda _: self._accept(server))
        if self._starter is not None:
            self._adopt(self._starter)
            self._answer(self._starter, {"started": self._main})
        while self._main_status is None:
            self._step()
        self._end(self._main_status)

    # --- start and end of the container ---

    def _start_main(self) -> None:
        spec = self._spec
        env = {**spec.env, proc.MARK: os.path.realpath(self._directory)}
        if spec.tty:
            near, far = os.openpty()
            ends = (far, far, far)
            self._stdin = near
            self._sources = [Source(near, STDOUT)]
        else:
            out, out_far = os.pipe2(os.O_CLOEXEC)
            err, err_far = os.pipe2(os.O_CLOEXEC)
            if spec.stdin:
                in_far, self._stdin = os.pipe2(os.O_CLOEXEC)
            else:
                in_far = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            ends = (in_far, out_far, err_far)
            self._sources = [Source(out, STDOUT), Source(err, STDERR)]
        try:
            self._main = spawn(
                spec.argv, env, spec.cwd, stdin=ends[0], stdout=ends[1], stderr=ends[2], terminal=spec.tty
            )
        finally:
            for far in set(ends):
                os.close(far)
        self._started_at = time.time()
        shim, child = proc.identify(os.getpid()), proc.identify(self._main)
        assert shim is not None
        state = State(shim=shim, main=child, started_at=self._started_at)
        containerfiles.write_json(os.path.join(self._directory, containerfiles.STATE), state.to_json())
        for source in self._sources:
            os.set_blocking(source.descriptor, False)
            self._loop.watch(source.descriptor, self._read_source)

    def _fail(self, error: StartError | OSError) -> None:
        now = time.time()
        message = error.message if isinstance(error, StartError) else str(error)
        self._log.close()
        end = Exit(
            exit_code=NOT_STARTED, started_at=now, finished_at=now, reason="StartError", message=message
        )
        containerfiles.write_json(os.path.join(self._directory, containerfiles.EXIT), end.to_json())
        if self._starter is not None:
            self._answer(self._starter, {"error": message, "exit": end.to_json()})

    def _end(self, status: int) -> None:
        """The main process has ended: kill what is left, complete the log, tell everybody."""
        left = self._kill_everything()
        for source in self._sources:
            while self._read_source(source.descriptor):
                continue
        self._flush_outlets()
        self._log.close()
        message = self._last_words()
        if left:
            message += f"{'; ' if message else ''}could not be killed: {', '.join(map(str, left))}"
        if self._log.lost:
            message += f"{'; ' if message else ''}{self._log.lost} bytes of its output could not be written to the log"
        end = Exit(
            exit_code=exit_code(status),
            started_at=self._started_at,
            finished_at=time.time(),
            message=message,
        )
        if os.path.isdir(self._directory):
            containerfiles.write_json(os.path.join(self._directory, containerfiles.EXIT), end.to_json())
            os.unlink(os.path.join(self._directory, containerfiles.SOCKET))
        for number, connection in self._connections.items():
            if number in self._watchers:
                self._answer(connection, {"exit": end.to_json()})
            elif number in self._log_waiters:
                self._answer(connection, {"size": self._log.size, "complete": True})

    def _last_words(self) -> str:
        """What the container wrote for this moment."""
        try:
            with open(os.path.join(self._directory, containerfiles.LAST_WORDS), "rb") as file:
                return file.read(MOST_LAST_WORDS).decode("utf-8", "replace").rstrip()
        except OSError:
            return ""

    def _kill_everything(self) -> list[int]:
        """Kill all that descends from this process; what is left after the limit (stuck in the kernel)."""
        deadline = time.monotonic() + KILL_LIMIT
        while True:
            below = proc.descendants(os.getpid())
            for pid in below:
                found = proc.identify(pid)
                if found is not None:
                    found.send(signal.SIGKILL)
            self._reap()
            left = [pid for pid in proc.descendants(os.getpid()) if proc.identify(pid) is not None]
            if not left or time.monotonic() > deadline:
                self._reap()
                return left
            self._drain_while_killing()

    def _drain_while_killing(self) -> None:
        for descriptor in self._loop.ready(KILL_ROUND):
            if any(source.descriptor == descriptor for source in self._sources):
                self._read_source(descriptor)
        self._loop.signals()

    # --- the loop ---

    def _step(self) -> None:
        now = time.monotonic()
        due = [self._home_check_at, *self._execution_times()]
        if self._kill_at is not None:
            due.append(self._kill_at)
        self._loop.step(min(due) - now + 0.001)
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._signal_main(signal.SIGKILL)
        if now >= self._home_check_at:
            self._home_check_at = now + HOME_CHECK
            if not os.path.isdir(self._directory):
                self._signal_main(signal.SIGKILL)
        for execution in list(self._executions.values()):
            execution.tick(now)

    def _execution_times(self) -> list[float]:
        return [at for execution in self._executions.values() if (at := execution.next_at) is not None]

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._stop(OWN_GRACE)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main:
                self._main_status = status
                continue
            for execution in list(self._executions.values()):
                if execution.pid == pid:
                    execution.ended(exit_code(status))

    # --- output ---

    def _read_source(self, descriptor: int) -> bool:
        """Take what the main process printed; False when there is nothing (more)."""
        source = next((entry for entry in self._sources if entry.descriptor == descriptor), None)
        if source is None:
            return False
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal that nobody holds open any more
        if not data:
            self._loop.unwatch(descriptor)
            return False
        self._log.feed(source.stream, data)
        for outlet in list(self._outlets.values()):
            outlet.feed(source.stream, data)
            self._follow_outlet(outlet)
        self._wake_log_waiters()
        return True

    def _wake_log_waiters(self) -> None:
        for number, known in list(self._log_waiters.items()):
            if self._log.size > known:
                del self._log_waiters[number]
                self._answer(self._connections[number], {"size": self._log.size, "complete": False})

    def _follow_outlet(self, outlet: Outlet) -> None:
        """Watch the pipes of an attached client for room as long as something waits for it."""
        for descriptor, waiting in outlet.waiting():
            if waiting and not self._loop.watches(descriptor):
                self._loop.watch(descriptor, lambda _: self._drain_outlet(outlet), select.POLLOUT)
            elif not waiting:
                self._loop.unwatch(descriptor)

    def _drain_outlet(self, outlet: Outlet) -> None:
        outlet.drain()
        self._follow_outlet(outlet)

    def _flush_outlets(self) -> None:
        deadline = time.monotonic() + ATTACH_FLUSH
        while any(waiting for outlet in self._outlets.values() for _, waiting in outlet.waiting()):
            if time.monotonic() > deadline:
                break
            for outlet in self._outlets.values():
                outlet.drain()
            time.sleep(KILL_ROUND)
        for outlet in self._outlets.values():
            outlet.close()

    # --- requests ---

    def _accept(self, server: socket.socket) -> None:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        self._adopt(connection)

    def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        number = connection.fileno()
        self._connections[number] = connection
        self._loop.watch(number, self._serve)

    def _serve(self, number: int) -> None:
        connection = self._connections[number]
        try:
            message, descriptors = wire.receive(connection)
        except (BlockingIOError, ValueError):
            return
        if message is None:
            self._disconnected(number)
            return
        try:
            self._request(number, connection, message, descriptors)
        except (KeyError, TypeError, ValueError) as error:  # a daemon of another version
            self._answer(connection, {"error": f"the request was not understood: {error!r}", "code": 126})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _request(
        self, number: int, connection: socket.socket, message: dict[str, Any], descriptors: list[int]
    ) -> None:
        operation = message.get("op")
        if operation == "watch":
            self._watchers.add(number)
            self._answer(connection, {"watching": self._main})
        elif operation == "log":
            self._log_waiters[number] = int(message["size"])
            self._wake_log_waiters()
        elif operation == "exec":
            self._exec(number, connection, message, descriptors)
        elif operation == "attach":
            self._attach(number, connection, descriptors)
        elif operation == "stop":
            self._stop(float(message["grace"]))
            self._answer(connection, {"stopping": True})
        elif operation == "signal":
            self._signal_main(int(message["signal"]))
            self._answer(connection, {"signalled": True})
        elif operation == "eof" and number in self._outlets:
            self._end_of_input()
        elif number in self._executions:
            self._executions[number].request(str(operation))
        else:
            self._answer(connection, {"error": f"unknown operation {operation!r}"})

    def _answer(
        self, connection: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()
    ) -> None:
        try:
            wire.send(connection, message, descriptors)
        except OSError:
            return  # the client has gone, or does not read: its connection's end is noticed by poll

    def _disconnected(self, number: int) -> None:
        self._loop.unwatch(number)
        self._watchers.discard(number)
        self._log_waiters.pop(number, None)
        execution = self._executions.get(number)
        if execution is not None:
            execution.disconnected()
        outlet = self._outlets.pop(number, None)
        if outlet is not None:
            for descriptor, _ in outlet.waiting():
                self._loop.unwatch(descriptor)
            outlet.close()
            self._end_of_input()
        self._connections.pop(number).close()

    def _exec(
        self, number: int, connection: socket.socket, message: dict[str, Any], descriptors: list[int]
    ) -> None:
        if len(descriptors) != 3:
            self._answer(connection, {"error": "exec needs three descriptors", "code": 126})
            return
        env = {**message["env"], proc.MARK: os.path.realpath(self._directory)}
        try:
            pid = spawn(
                message["argv"],
                env,
                message["cwd"],
                stdin=descriptors[0],
                stdout=descriptors[1],
                stderr=descriptors[2],
                terminal=bool(message.get("tty")),
            )
        except StartError as error:
            self._answer(connection, {"error": error.message, "code": error.exit_code})
            return
        except OSError as error:
            self._answer(connection, {"error": str(error), "code": 126})
            return
        self._executions[number] = Execution(
            pid,
            tell=lambda answer: self._answer(connection, answer),
            forget=lambda: self._executions.pop(number, None),
        )
        self._answer(connection, {"started": pid})

    def _attach(self, number: int, connection: socket.socket, descriptors: list[int]) -> None:
        kept = [os.dup(descriptor) for descriptor in descriptors[:2]]
        for descriptor in kept:
            os.set_blocking(descriptor, False)
        self._outlets[number] = Outlet(kept)
        way_in = () if self._stdin is None else (self._stdin,)
        self._answer(connection, {"attached": True}, way_in)

    def _end_of_input(self) -> None:
        """An attached client has ended its input, or has gone; with `stdinOnce` there will be no other."""
        if self._spec.stdin_once and not self._spec.tty and self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _stop(self, grace: float) -> None:
        at = time.monotonic() + max(0.0, grace)
        if self._kill_at is None or at < self._kill_at:
            self._kill_at = at
        if grace > 0:
            self._signal_main(signal.SIGTERM)

    def _signal_main(self, number: int) -> None:
        if self._main_status is None:  # not reaped yet: the pid is still its own
            try:
                os.kill(self._main, number)
            except OSError:
                return


def exit_code(status: int) -> int:
    """A wait status as a shell counts it: 128 + N for signal N."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
