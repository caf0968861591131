"""Bringing changes of ConfigMaps, Secrets and the pod itself into the volumes of a running pod; renewing its tokens.

The real kubelet does so when it looks at a pod anew, about once a minute; so does this. Environment variables are
never changed, as in Kubernetes. What cannot be read (the ConfigMap is gone) leaves the files as they are and is told
in an event.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

from kubesim.kubelet import environment, references, volumes
from kubesim.kubelet.addresses import HOST
from kubesim.kubelet.containers import JsonObject, PodView
from kubesim.kubelet.records import PodFolder
from kubesim.kubelet.surroundings import Surroundings
from kubesim.kubelet.volumes import VolumeError

LIVING = ("configMap", "secret", "downwardAPI", "projected")
OLDEST_TOKEN = 24 * 3600.0


class Refresher:
    """Keeps the volumes of one pod up to date."""

    def __init__(self, surroundings: Surroundings, folder: PodFolder) -> None:
        self._with = surroundings
        self._folder = folder
        self.due_at: float | None = None
        """When the next look is due, None when there is nothing to look after."""

    async def step(self, view: PodView) -> None:
        """Look if it is due. Raises KubeError when the API server cannot be asked."""
        wanted = [one for one in view.spec.get("volumes") or () if any(kind in one for kind in LIVING)]
        if not wanted or not view.prepared or not view.running or "deletionTimestamp" in view.metadata:
            self.due_at = None
            return
        now = self._with.clock()
        if self.due_at is None:
            self.due_at = (
                now + self._with.sync_every
            )  # they have just been made, or the kubelet has just come
        elif now >= self.due_at:
            self.due_at = now + self._with.sync_every
            await self._refresh(view, wanted, now)

    async def _refresh(self, view: PodView, wanted: list[JsonObject], now: float) -> None:
        pod = view.pod
        sources = await references.read(
            self._with.client, pod, pod_ip=view.pod_ip, host_ip=HOST, allocatable=self._with.allocatable
        )
        kept = await asyncio.to_thread(self._young_tokens, pod, now)
        tokens = {**kept, **await references.request_tokens(self._with.client, pod, but=kept)}
        for volume in wanted:
            try:
                await asyncio.to_thread(self._write, pod, volume, sources, tokens)
            except (VolumeError, OSError) as error:
                message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                self._with.events.warning(pod, "FailedMount", message)

    def _write(
        self, pod: JsonObject, volume: JsonObject, sources: environment.Sources, tokens: Mapping[str, str]
    ) -> None:
        files = volumes.files_of(pod, volume, sources, tokens)
        volumes.write(self._folder.volumes / volume["name"], volume, files)

    def _young_tokens(self, pod: JsonObject, now: float) -> dict[str, str]:
        """The tokens that the pod has and that need not be renewed yet."""
        found = {}
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if (projection := source.get("serviceAccountToken")) is None:
                    continue
                try:
                    token = (self._folder.volumes / volume["name"] / projection["path"]).read_text()
                except (OSError, ValueError):
                    continue
                if not is_old(token, now):
                    found[volumes.token_key(projection)] = token
        return found


def is_old(token: str, now: float) -> bool:
    """Whether a service account token has lived through four fifths of its life, or a day; what is no token is old."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        issued, expires = float(claims["iat"]), float(claims["exp"])
    except (ValueError, KeyError, IndexError, TypeError):
        return True
    return now > min(issued + 0.8 * (expires - issued), issued + OLDEST_TOKEN)
