"""What clients send, as they must send it: unknown or mistyped fields are refused. The task itself is checked
by `whimbrel.model.yamltask.from_wire`, which knows it field by field.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 2**53
"""The largest number that is a position, a count or an id: what databases, files and JSON all can hold."""


class Body(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class PlanBody(Body):
    """Where could this run?"""

    task: dict[str, Any]
    cluster: str | None = None


class FilesBody(Body):
    """Manifests of what was uploaded, by their SHA-256."""

    workdir: str | None = None
    mounts: dict[str, str] = Field(default_factory=dict)


class LaunchBody(Body):
    """A task for a cluster, new or not."""

    task: dict[str, Any]
    files: FilesBody = Field(default_factory=FilesBody)
    down: bool = False
    infra: str | None = None


class DownBody(Body):
    """Remove a cluster."""

    purge: bool = False


class LookBody(Body):
    """Where to look for leftovers; None means wherever tombstones are."""

    infra: list[str] | None = None


class LeftoverBody(Body):
    """A tombstone, and the place at which it was met."""

    uid: str
    infra: str
    kubeconfig: list[str]


class ReapBody(Body):
    """Remove what is left of these."""

    tombstones: list[LeftoverBody]


class VolumeBody(Body):
    """A volume as its YAML says it."""

    volume: dict[str, Any]


class VolumeDeleteBody(Body):
    """Delete a volume."""

    purge: bool = False


class CancelJobsBody(Body):
    """Which jobs; with neither, the newest that has not ended."""

    job_ids: list[Annotated[int, Field(ge=1, le=LARGEST)]] | None = None
    all: bool = False


class MissingBody(Body):
    """Which of these files does the server lack?"""

    sha256: list[str]


class CheckBody(Body):
    """Which infrastructure to look at; None means all that is configured."""

    infra: list[str] | None = None


class CancelRequestBody(Body):
    """Why, if there is anything to say."""

    reason: str = "user"
