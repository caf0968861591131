"""Why a WebSocket was refused, for the client that asks again in another way.

kubectl answers every refused WebSocket by trying the same over SPDY, and shows only what it hears then. SPDY
is not spoken here, so the second try has to get the reason of the first: that the pod is not there, or its
container does not run.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from kubesim.apiserver.requests import ApiRequest
from kubesim.errors import StatusError

SECONDS = 10.0
_MOST = 256

_Key = tuple[str, str, tuple[tuple[str, str], ...]]


class Refusals:
    def __init__(self) -> None:
        self._known: OrderedDict[_Key, tuple[float, StatusError]] = OrderedDict()

    def note(self, request: ApiRequest, error: StatusError) -> None:
        self._known[_key(request)] = (time.monotonic(), error)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def take(self, request: ApiRequest) -> StatusError | None:
        """The reason for which the same was refused a moment ago."""
        noted = self._known.pop(_key(request), None)
        if noted is None or time.monotonic() - noted[0] > SECONDS:
            return None
        return noted[1]


def _key(request: ApiRequest) -> _Key:
    return request.user.name, request.path, request.query.pairs()
