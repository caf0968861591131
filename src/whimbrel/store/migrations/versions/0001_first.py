"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_table(
        "clusters",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("infra", sa.Text(), nullable=False),
        sa.Column("kubeconfig", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("identity", sa.Text(), server_default="", nullable=False),
        sa.Column("num_nodes", sa.Integer(), nullable=False),
        sa.Column("shape", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("task", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("nodes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("autodown", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("workspace", sa.Text(), server_default="default", nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("launched_at", sa.Float(precision=53), nullable=True),
        sa.Column("observed_at", sa.Float(precision=53), nullable=True),
        sa.Column("last_error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("closed_at", sa.Float(precision=53), nullable=True),
        sa.Column("next_job", sa.Integer(), server_default="1", nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.Float(precision=53), nullable=True),
        sa.CheckConstraint(
            "(status = 'DOWN') = (closed_at IS NOT NULL)", name=op.f("clusters_closed_when_down")
        ),
        sa.CheckConstraint("status IN ('INIT', 'UP', 'STOPPED', 'DOWN')", name=op.f("clusters_status")),
        sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name=op.f("clusters_lease_with_owner")),
        sa.PrimaryKeyConstraint("uid", name=op.f("clusters_pkey")),
    )
    op.create_index("clusters_name", "clusters", ["name", "created_at"], unique=False)
    op.create_index(
        "clusters_one_open_per_name",
        "clusters",
        ["name"],
        unique=True,
        sqlite_where=sa.text("status <> 'DOWN'"),
        postgresql_where=sa.text("status <> 'DOWN'"),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.Float(precision=53), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancel_requested_at", sa.Float(precision=53), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("events", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=True),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (owner IS NOT NULL)", name=op.f("requests_owned_while_running")
        ),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("requests_finished_when_terminal"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("requests_state")
        ),
        sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name=op.f("requests_lease_with_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("requests_pkey")),
        sa.UniqueConstraint("seq", name=op.f("requests_seq_key")),
    )
    op.create_index(
        "requests_claimable",
        "requests",
        [sa.literal_column("priority DESC"), "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("requests_finished", "requests", ["finished_at"], unique=False)
    op.create_index(
        "requests_live",
        "requests",
        ["subject", "seq"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index(
        "requests_one_running_per_subject",
        "requests",
        ["subject"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("servers_pkey")),
    )
    op.create_table(
        "things",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("infra", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("native_id", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("cluster_uid", sa.Text(), server_default="", nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("hourly_price", sa.Float(precision=53), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("changed_at", sa.Float(precision=53), nullable=False),
        sa.Column("last_seen_at", sa.Float(precision=53), nullable=True),
        sa.Column("forgotten_by", sa.Text(), nullable=True),
        sa.Column("condition", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'forgotten') = (forgotten_by IS NOT NULL)", name=op.f("things_forgotten_by_somebody")
        ),
        sa.CheckConstraint(
            "state IN ('intended', 'exists', 'deleting', 'absent', 'forgotten')", name=op.f("things_state")
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("things_pkey")),
    )
    op.create_index("things_cluster_uid", "things", ["cluster_uid"], unique=False)
    op.create_index(
        "things_left",
        "things",
        ["infra"],
        unique=False,
        sqlite_where=sa.text("state <> 'absent'"),
        postgresql_where=sa.text("state <> 'absent'"),
    )
    op.create_table(
        "events",
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["request"], ["requests.id"], name=op.f("events_request_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request", "idx", name=op.f("events_pkey")),
    )
    op.create_table(
        "jobs",
        sa.Column("cluster_uid", sa.Text(), nullable=False),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("num_nodes", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.Float(precision=53), server_default="0", nullable=False),
        sa.Column("gpus", sa.Float(precision=53), server_default="0", nullable=False),
        sa.Column("ranks", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("submitted_at", sa.Float(precision=53), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=True),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("cancel_requested_at", sa.Float(precision=53), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("log_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(status IN ('SUCCEEDED', 'FAILED', 'FAILED_DRIVER', 'CANCELLED')) = (ended_at IS NOT NULL)",
            name=op.f("jobs_ended_when_final"),
        ),
        sa.CheckConstraint(
            "status IN ('PENDING', 'STARTING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'FAILED_DRIVER', 'CANCELLING',"
            " 'CANCELLED')",
            name=op.f("jobs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["cluster_uid"], ["clusters.uid"], name=op.f("jobs_cluster_uid_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cluster_uid", "id", name=op.f("jobs_pkey")),
    )
    op.create_index(
        "jobs_live",
        "jobs",
        ["cluster_uid"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("jobs_one_per_request", "jobs", ["cluster_uid", "request_id"], unique=True)
    op.create_table(
        "steps",
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("deadline", sa.Float(precision=53), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=False),
        sa.Column("done_at", sa.Float(precision=53), nullable=True),
        sa.CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name=op.f("steps_done_at_when_done")),
        sa.CheckConstraint("state IN ('intended', 'done')", name=op.f("steps_state")),
        sa.ForeignKeyConstraint(
            ["request"], ["requests.id"], name=op.f("steps_request_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request", "name", name=op.f("steps_pkey")),
    )
