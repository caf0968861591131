"""The life of the server process: take the home, open the database, serve, and leave within three seconds.

Order of leaving: SIGTERM or SIGINT, readiness off, streams say "reconnect", running work goes back to the
queue, sockets close, the database closes, `os._exit`. The last is on purpose: a thread that hangs in somebody
else's code must not keep the process. A second signal, or `LONGEST_GOODBYE`, ends it at once: everything that
matters is in the database, and the next server carries on as after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import uvicorn

from whimbrel.model.errors import ServerUnavailable, WhimError
from whimbrel.model.exitcodes import ExitCode
from whimbrel.operations.tools import Places
from whimbrel.server import logfile
from whimbrel.server.app import create_app
from whimbrel.server.draining import Drain, DrainingServer
from whimbrel.server.home import Home
from whimbrel.server.services import Services

logger = logging.getLogger(__name__)

LONGEST_GOODBYE = 2.7  # seconds from the signal to the end of the process
LET_GO = 1.5  # of them, for handing work back
DESCRIPTORS = 16384
BACKLOG = (
    2048  # connections that wait to be accepted; a Unix socket refuses what is more, and says "try again"
)


def run(home: Home, *, foreground: bool = False, places: Callable[[], Places] | None = None) -> NoReturn:
    """Serve until told to leave. Never returns: the process ends here.

    Args:
        home: where the state is.
        foreground: log to standard error instead of the home's log.
        places: where clusters can be; None for the real ones.
    """
    os.umask(0o077)
    _allow_many_streams()
    try:
        home.prepare()
        logfile.configure(home.log, foreground=foreground)
        home.claim()  # until this process ends
        _main(home, places)
    except WhimError as error:
        sys.stderr.write(f"{error.message}\n" + (f"  -> {error.remedy}\n" if error.remedy else ""))
        _exit(error.exit_code)
    except Exception:
        logger.exception("the server could not run")
        _exit(ExitCode.SERVER)


def _allow_many_streams() -> None:
    """Each stream to a node is a descriptor, and the usual 1024 are fewer than the nodes of one large job."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _main(home: Home, places: Callable[[], Places] | None) -> NoReturn:
    address = home.socket_path()
    home.write_record(address=f"unix:{address}", state="starting")
    listener = _listen(address)
    try:
        import uvloop  # not on every platform

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    try:
        with runner:
            runner.run(_serve(home, address, listener, places))
    finally:
        _leave_nothing(home, address)


def _listen(path: Path) -> socket.socket:
    """A socket that only this user can open. Whatever is at its path is left by a dead server: we hold the
    lock."""
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ServerUnavailable(
            f"The API server cannot open its socket {path!s}: {error.strerror}.",
            remedy="set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
        ) from error
    os.chmod(path, 0o600)
    return listener


async def _serve(
    home: Home, path: Path, listener: socket.socket, places: Callable[[], Places] | None
) -> NoReturn:
    """Until the server has left. Ends the process itself: leaving the event loop would wait for every
    thread."""
    drain = Drain()
    address = f"unix:{path}"
    services = await Services.open(home, drain, address=address, places=places)
    server = DrainingServer(
        uvicorn.Config(
            create_app(services),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            backlog=BACKLOG,
        ),
        drain,
        opened=lambda: home.write_record(address=address, state="ready"),
        let_go=lambda: services.let_go(LET_GO),
    )
    failed = False

    def leave(reason: str) -> None:
        if server.should_exit:
            logger.warning("%s while leaving: ending at once", reason)
            _end_now()
        logger.info("leaving: %s", reason, extra={"action": "leave"})
        server.should_exit = True
        asyncio.get_running_loop().call_later(LONGEST_GOODBYE, _end_now)
        try:
            home.write_record(address=address, state="draining")
        except OSError as error:  # a full disk keeps nobody here
            logger.warning("the record of this server could not be written: %s", error)

    def broken(reason: str) -> None:
        nonlocal failed
        failed = True
        leave(reason)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, number.name)
    await services.start(broken)
    try:
        await server.serve(sockets=[listener])
    finally:
        await services.close()
    _leave_nothing(home, path)
    logger.info("gone", extra={"action": "gone"})
    _exit(ExitCode.SERVER if failed else ExitCode.OK)


def _leave_nothing(home: Home, path: Path) -> None:
    home.remove_record()
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()  # it is ours alone, and made again at the next start


def _end_now() -> NoReturn:
    """As if killed: leases end or are taken over, and nothing that was acknowledged is lost."""
    _exit(ExitCode.SERVER)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    sys.stderr.flush()
    os._exit(int(code))
