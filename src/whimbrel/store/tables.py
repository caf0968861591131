"""The whole schema of the server's database, in portable SQLAlchemy Core; each column says its invariant.

Times are UNIX seconds by the database's clock. JSON columns hold objects or arrays, never bare values. The
constraints are part of the design: they make the states that must not exist unrepresentable, whatever the code
does. A change here needs a new file in `migrations/versions` and a new `REVISION` (a test compares the two).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

REVISION = "0004"

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True, doc="UUID made by the client: the idempotency key"),
    Column("actor", Text, nullable=False, doc="who asked"),
    Column("kind", Text, nullable=False, doc="names the operation; a server claims only kinds it knows"),
    Column(
        "subject", Text, nullable=False, doc="requests of one subject run one at a time, in the order of seq"
    ),
    Column("body", JSON(none_as_null=True), nullable=False, doc="secret values are blanked when it finishes"),
    Column(
        "body_hash", Text, nullable=False, doc="of kind, subject, actor and body as submitted; never changes"
    ),
    Column("seq", BigInteger, nullable=False, unique=True, doc="order of acceptance"),
    Column("priority", Integer, nullable=False, server_default="0", doc="larger first, among subjects"),
    Column("state", Text, nullable=False, doc="terminal states are final"),
    Column("due_at", Float(53), nullable=False, doc="not claimed before this"),
    Column("owner", Text, doc="id of the server that runs it; set exactly while running"),
    Column(
        "fence", BigInteger, nullable=False, server_default="0", doc="grows with each claim; proves ownership"
    ),
    Column("lease_until", Float(53), doc="after this anybody may take it away; set exactly while running"),
    Column(
        "failures",
        Integer,
        nullable=False,
        server_default="0",
        doc="how often it was put off by our own fault",
    ),
    Column("losses", Integer, nullable=False, server_default="0", doc="how often its owner vanished"),
    Column("cancel_requested_at", Float(53), doc="set once; the owner ends it, and nobody takes it up again"),
    Column("cancel_reason", Text),
    Column("events", Integer, nullable=False, server_default="0", doc="idx of its newest event"),
    Column("output", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True), doc="WhimError.to_wire()"),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53), doc="first claim"),
    Column("finished_at", Float(53), doc="set exactly in a terminal state"),
    CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"),
    CheckConstraint("(state = 'running') = (owner IS NOT NULL)", name="owned_while_running"),
    CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_with_owner"),
    CheckConstraint(
        "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
        name="finished_when_terminal",
    ),
)
Index(
    "requests_one_running_per_subject",
    requests.c.subject,
    unique=True,
    sqlite_where=text("state = 'running'"),
    postgresql_where=text("state = 'running'"),
)
Index(
    "requests_claimable",
    requests.c.priority.desc(),
    requests.c.seq,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "requests_live",
    requests.c.subject,
    requests.c.seq,
    sqlite_where=text("state IN ('queued', 'running')"),
    postgresql_where=text("state IN ('queued', 'running')"),
)
Index("requests_finished", requests.c.finished_at)

steps = Table(
    "steps",
    metadata,
    Column("request", Text, ForeignKey(requests.c.id, ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True, doc="named, not numbered: adding one is compatible"),
    Column("state", Text, nullable=False, doc="committed as intended before the effect, done after it"),
    Column("token", Text, nullable=False, doc="'<request>-<name>': the same at each attempt"),
    Column("output", JSON(none_as_null=True)),
    Column("deadline", Float(53), nullable=False, doc="of the latest attempt; the lease does not outlive it"),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("started_at", Float(53), nullable=False),
    Column("done_at", Float(53)),
    CheckConstraint("state IN ('intended', 'done')", name="state"),
    CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name="done_at_when_done"),
)

events = Table(
    "events",
    metadata,
    Column("request", Text, ForeignKey(requests.c.id, ondelete="CASCADE"), primary_key=True),
    Column(
        "idx", Integer, primary_key=True, autoincrement=False, doc="1, 2, 3, ... without a gap, per request"
    ),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False, doc="the user, or the id of the server"),
    Column("kind", Text, nullable=False),
    Column("data", JSON(none_as_null=True), nullable=False),
)

servers = Table(
    "servers",
    metadata,
    Column("id", Text, primary_key=True, doc="one per process start"),
    Column("version", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False, doc="for people: leases decide, not this"),
    Column("draining", Boolean, nullable=False, server_default=text("0")),
)

things = Table(
    "things",
    metadata,
    Column("token", Text, primary_key=True, doc="'<infra>/<kind>/<namespace>/<name>/<cluster uid>'"),
    Column("infra", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("labels", JSON(none_as_null=True), nullable=False, doc="by which leftovers can be found"),
    Column("native_id", Text),
    Column("subject", Text, nullable=False, doc="the request's subject"),
    Column("cluster_uid", Text, nullable=False, server_default=""),
    Column(
        "request",
        Text,
        nullable=False,
        doc="the last request that intended it; no foreign key: it outlives it",
    ),
    Column(
        "state", Text, nullable=False, doc="committed as intended before the first call that could create it"
    ),
    Column("hourly_price", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("changed_at", Float(53), nullable=False),
    Column("last_seen_at", Float(53), doc="when the infrastructure last said that it is there"),
    Column("forgotten_by", Text, doc="who gave up on it; set exactly when forgotten"),
    Column("condition", JSON(none_as_null=True), doc="what was last heard about it"),
    CheckConstraint("state IN ('intended', 'exists', 'deleting', 'absent', 'forgotten')", name="state"),
    CheckConstraint("(state = 'forgotten') = (forgotten_by IS NOT NULL)", name="forgotten_by_somebody"),
)
Index("things_cluster_uid", things.c.cluster_uid)
Index(
    "things_left",
    things.c.infra,
    sqlite_where=text("state <> 'absent'"),
    postgresql_where=text("state <> 'absent'"),
)

clusters = Table(
    "clusters",
    metadata,
    Column("uid", Text, primary_key=True, doc="this incarnation; goes into labels"),
    Column("name", Text, nullable=False, doc="unique among clusters that are not DOWN"),
    Column("status", Text, nullable=False, doc="INIT, UP, STOPPED or DOWN; DOWN is final"),
    Column("infra", Text, nullable=False, doc="'k8s/CONTEXT'"),
    Column("kubeconfig", JSON(none_as_null=True), nullable=False, doc="the paths that the client saw"),
    Column(
        "identity", Text, nullable=False, server_default="", doc="what the context led to when it was created"
    ),
    Column("num_nodes", Integer, nullable=False),
    Column("shape", JSON(none_as_null=True), nullable=False, doc="NodeShape"),
    Column(
        "task", JSON(none_as_null=True), nullable=False, doc="the task that made it, without secret values"
    ),
    Column("nodes", JSON(none_as_null=True), nullable=False, doc="[{rank, name, ip, ...}] as last observed"),
    Column("autodown", Boolean, nullable=False, server_default=text("0")),
    Column("workspace", Text, nullable=False, server_default="default"),
    Column("user", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("launched_at", Float(53), doc="last launch or exec"),
    Column("observed_at", Float(53), doc="age of status and nodes"),
    Column("last_error", JSON(none_as_null=True), doc="WhimError.to_wire() of what went wrong last"),
    Column("closed_at", Float(53), doc="set exactly when DOWN"),
    Column(
        "next_job", Integer, nullable=False, server_default="1", doc="id of the next job; never given twice"
    ),
    Column("owner", Text, doc="the server that reconciles its jobs"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", Float(53)),
    Column(
        "namespace",
        Text,
        nullable=False,
        server_default="",
        doc="in which its things are, whatever the context says now; empty where there is no such thing",
    ),
    Column(
        "sent",
        JSON(none_as_null=True),
        nullable=False,
        server_default="{}",
        doc="what came with the task: manifests of its files, names of its secrets",
    ),
    Column(
        "provision",
        JSON(none_as_null=True),
        nullable=False,
        server_default="{}",
        doc="Provision: how its nodes are made beside their shape; what is set later is for later clusters",
    ),
    Column(
        "endpoints",
        JSON(none_as_null=True),
        nullable=False,
        server_default="[]",
        doc="[{port, url, note}] as last observed",
    ),
    Column("endpoints_at", Float(53), doc="age of the endpoints"),
    CheckConstraint("status IN ('INIT', 'UP', 'STOPPED', 'DOWN')", name="status"),
    CheckConstraint("(status = 'DOWN') = (closed_at IS NOT NULL)", name="closed_when_down"),
    CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_with_owner"),
)
Index(
    "clusters_one_open_per_name",
    clusters.c.name,
    unique=True,
    sqlite_where=text("status <> 'DOWN'"),
    postgresql_where=text("status <> 'DOWN'"),
)
Index("clusters_name", clusters.c.name, clusters.c.created_at)

volumes = Table(
    "volumes",
    metadata,
    Column("uid", Text, primary_key=True, doc="this incarnation; goes into labels"),
    Column("name", Text, nullable=False, doc="the user's; unique among volumes that are not GONE"),
    Column(
        "status", Text, nullable=False, doc="INTENDED before it is made, READY, DELETING, GONE; GONE is final"
    ),
    Column("infra", Text, nullable=False, doc="'k8s/CONTEXT'"),
    Column("kubeconfig", JSON(none_as_null=True), nullable=False, doc="the paths that the client saw"),
    Column("identity", Text, nullable=False, doc="what the context led to when it was made"),
    Column("namespace", Text, nullable=False),
    Column("claim", Text, nullable=False, doc="name of the PersistentVolumeClaim"),
    Column("spec", JSON(none_as_null=True), nullable=False, doc="the volume as it was asked for"),
    Column("phase", Text, nullable=False, server_default="", doc="of the claim, as last observed"),
    Column("user", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("observed_at", Float(53), doc="age of the phase"),
    Column("closed_at", Float(53), doc="set exactly when GONE"),
    Column("last_error", JSON(none_as_null=True), doc="WhimError.to_wire() of what went wrong last"),
    CheckConstraint("status IN ('INTENDED', 'READY', 'DELETING', 'GONE')", name="status"),
    CheckConstraint("(status = 'GONE') = (closed_at IS NOT NULL)", name="closed_when_gone"),
)
Index(
    "volumes_one_open_per_name",
    volumes.c.name,
    unique=True,
    sqlite_where=text("status <> 'GONE'"),
    postgresql_where=text("status <> 'GONE'"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("cluster_uid", Text, ForeignKey(clusters.c.uid, ondelete="CASCADE"), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False, doc="1, 2, 3, ... per cluster"),
    Column("name", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, doc="final states are final"),
    Column(
        "spec", JSON(none_as_null=True), nullable=False, doc="run, envs, secrets; secrets wiped at the end"
    ),
    Column("num_nodes", Integer, nullable=False),
    Column("cpus", Float(53), nullable=False, server_default="0", doc="per node"),
    Column("gpus", Float(53), nullable=False, server_default="0", doc="per node"),
    Column(
        "ranks", JSON(none_as_null=True), nullable=False, doc="[{rank, node, exit_code, signal, offset, ...}]"
    ),
    Column("submitted_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("ended_at", Float(53), doc="set exactly in a final state"),
    Column(
        "reason", Text, nullable=False, server_default="", doc="why it ended as it did, in the user's words"
    ),
    Column("cancel_requested_at", Float(53), doc="an intent: the reconciler acts on it"),
    Column("request_id", Text, nullable=False, doc="that submitted it: one request makes at most one job"),
    Column("log_bytes", BigInteger, nullable=False, server_default="0", doc="length of the merged log"),
    CheckConstraint(
        "status IN ('PENDING', 'STARTING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'FAILED_DRIVER', 'CANCELLING',"
        " 'CANCELLED')",
        name="status",
    ),
    CheckConstraint(
        "(status IN ('SUCCEEDED', 'FAILED', 'FAILED_DRIVER', 'CANCELLED')) = (ended_at IS NOT NULL)",
        name="ended_when_final",
    ),
)
Index("jobs_one_per_request", jobs.c.cluster_uid, jobs.c.request_id, unique=True)
Index(
    "jobs_live",
    jobs.c.cluster_uid,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column(
        "cluster_uid",
        Text,
        primary_key=True,
        doc="whose it is; what may be left is in `things`. No foreign key: it outlives the cluster's row",
    ),
    Column("name", Text, nullable=False),
    Column("infra", Text, nullable=False),
    Column("kubeconfig", JSON(none_as_null=True), nullable=False),
    Column("identity", Text, nullable=False, doc="only there anything of it may be touched"),
    Column("namespace", Text, nullable=False),
    Column("num_nodes", Integer, nullable=False),
    Column("shape", JSON(none_as_null=True), nullable=False),
    Column("task", JSON(none_as_null=True), nullable=False, doc="without secret values"),
    Column("sent", JSON(none_as_null=True), nullable=False),
    Column("user", Text, nullable=False, doc="whose cluster it was"),
    Column("created_at", Float(53), nullable=False, doc="of the cluster"),
    Column("buried_at", Float(53), nullable=False),
    Column("buried_by", Text, nullable=False, doc="who forgot the cluster"),
    Column("request", Text, nullable=False, doc="that forgot it"),
    Column("reason", Text, nullable=False, doc="why it was not seen gone"),
    Column("reaped_at", Float(53), doc="when what it stands for was seen gone; set once"),
    Column("reaped_by", Text),
    CheckConstraint("(reaped_at IS NULL) = (reaped_by IS NULL)", name="reaped_by_somebody"),
)
Index("tombstones_name", tombstones.c.name)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, doc="order of writing"),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False, doc="'cluster.down', 'cluster.purge', ..."),
    Column("subject", Text, nullable=False),
    Column("request", Text, doc="the request that did it"),
    Column("data", JSON(none_as_null=True), nullable=False),
)
