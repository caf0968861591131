"""Start one command of a container: fork, a session of its own, the given descriptors, exec.

The command gets nothing of its parent but what is named here: no signal handling, no mask, no descriptor. It dies with
the shim that started it. That an exec failed is known to the caller before `spawn` returns, in the words of a
container runtime, because that is what users of Kubernetes search for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Mapping, Sequence

from kubesim.kubelet import linux


class StartError(Exception):
    """The command cannot be started: `exit_code` is what a shell would give (126 or 127)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    terminal: bool = False,
) -> int:
    """Start a command and return its pid. With `terminal`, stdin is its controlling terminal."""
    if not argv or not argv[0]:
        raise StartError("no command specified", 127)
    program = find_program(argv[0], env.get("PATH", ""), cwd)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(program, argv, env, cwd, (stdin, stdout, stderr), terminal, parent)
        except OSError as error:
            os.write(write_end, f"{error.errno or 0} {error.filename or ''}".encode())
        except BaseException as error:
            os.write(write_end, f"0 {type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(127)
    os.close(write_end)
    try:
        failure = os.read(read_end, 4096).decode("utf-8", "replace")
    finally:
        os.close(read_end)
    if failure:
        os.waitpid(pid, 0)
        raise _explain(failure, argv[0], cwd)
    return pid


def find_program(name: str, path: str, cwd: str) -> str:
    """Where the program is, by the container's PATH. Raises StartError as runc words it."""
    if "/" in name:
        return name  # exec itself says what is wrong with it, relative to the new working directory
    denied = False
    for folder in path.split(":"):
        candidate = os.path.join(cwd, folder or ".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = True
    if denied:
        raise StartError(f'exec: "{name}": permission denied', 126)
    raise StartError(f'exec: "{name}": executable file not found in $PATH', 127)


def _become(
    program: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    descriptors: tuple[int, int, int],
    terminal: bool,
    parent: int,
) -> None:
    """In the child: turn into the command. Comes back only by an exception."""
    os.setsid()
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # the shim died before the line above
        os._exit(127)
    if terminal:
        fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # a number that this system does not use
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    try:
        os.chdir(cwd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"chdir {cwd}") from None
    os.execve(program, list(argv), dict(env))
    sys.exit(127)  # not reached: execve returns only by an exception


def _explain(failure: str, name: str, cwd: str) -> StartError:
    number, _, what = failure.partition(" ")
    code = int(number)
    if code == 0:
        return StartError(f'exec: "{name}": {what}', 126)
    if what.startswith("chdir "):
        return StartError(f'chdir to cwd ("{cwd}") set in config failed: {_reason(code)}', 126)
    if code == errno.ENOENT:
        return StartError(f'exec: "{name}": stat {name}: no such file or directory', 127)
    return StartError(f'exec: "{name}": {_reason(code)}', 126)


def _reason(code: int) -> str:
    return "exec format error" if code == errno.ENOEXEC else os.strerror(code).lower()
