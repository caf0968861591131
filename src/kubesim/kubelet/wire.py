"""How the daemon, the zygote and the shims speak: one JSON object per packet on a Unix socket, with file descriptors.

Output never goes through these sockets: the daemon makes the pipes or the terminal, hands their far ends over, and
reads the near ends itself. So a packet is small, and a slow reader slows only the command that writes.

A Unix address is at most 107 bytes long, and the folders of a cluster may be deeper. Both sides therefore name the
socket through a descriptor of its folder (/proc/self/fd/N/NAME), which is always short.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST_PACKET = 256 << 10
MOST_DESCRIPTORS = 4
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(MOST_DESCRIPTORS * struct.calcsize("i"))


def listen(directory: str, name: str) -> socket.socket:
    """A listening socket DIRECTORY/NAME that only this user can open; one that is there is replaced."""
    path = os.path.join(directory, name)
    if os.path.lexists(path):
        os.unlink(path)
    server = _socket()
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server.bind(f"/proc/self/fd/{handle}/{name}")
        os.chmod(path, 0o600)
        server.listen(128)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    finally:
        os.close(handle)
    return server


def connect(directory: str, name: str) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError when nobody listens, BlockingIOError when the queue is full."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client = _socket()
        client.setblocking(False)
        try:
            client.connect(f"/proc/self/fd/{handle}/{name}")
        except OSError:
            client.close()
            raise
        return client
    finally:
        os.close(handle)


def send(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one packet. A packet that does not fit raises OSError (EMSGSIZE); nobody is waited for."""
    data = json.dumps(message, separators=(",", ":")).encode()
    socket.send_fds(connection, [data], list(descriptors), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One packet and its descriptors; None at the end. Raises BlockingIOError when there is none yet."""
    try:
        # Not socket.recv_fds: it ignores its flags, and the descriptors would leak into every command.
        data, extras, _, _ = connection.recvmsg(
            LARGEST_PACKET, _ROOM_FOR_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return None, []
    descriptors = [number for _, _, packed in extras for (number,) in struct.iter_unpack("i", packed)]
    if not data:
        return None, descriptors
    message = json.loads(data)
    return (message if isinstance(message, dict) else {}), descriptors


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_PACKET)
    return made
