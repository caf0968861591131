"""A purge leaves a tombstone that outlives the cluster's row; a cluster remembers what came with its task.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0002 to 0003; what was purged before gets its tombstone."""
    op.add_column(
        "clusters",
        sa.Column("sent", sa.JSON(none_as_null=True), server_default="{}", nullable=False),
    )
    op.create_table(
        "tombstones",
        sa.Column("cluster_uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("infra", sa.Text(), nullable=False),
        sa.Column("kubeconfig", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("num_nodes", sa.Integer(), nullable=False),
        sa.Column("shape", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("task", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sent", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("buried_at", sa.Float(53), nullable=False),
        sa.Column("buried_by", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reaped_at", sa.Float(53)),
        sa.Column("reaped_by", sa.Text()),
        sa.CheckConstraint("(reaped_at IS NULL) = (reaped_by IS NULL)", name="reaped_by_somebody"),
        sa.PrimaryKeyConstraint("cluster_uid", name="tombstones_pkey"),
    )
    op.create_index("tombstones_name", "tombstones", ["name"])
    op.execute(
        """
        INSERT INTO tombstones (cluster_uid, name, infra, kubeconfig, identity, namespace, num_nodes, shape, task,
                                sent, "user", created_at, buried_at, buried_by, request, reason)
        SELECT c.uid, c.name, c.infra, c.kubeconfig, c.identity, c.namespace, c.num_nodes, c.shape, c.task,
               c.sent, c."user", c.created_at, c.closed_at, t.who, t.request, 'it was purged'
        FROM clusters c
        JOIN (SELECT cluster_uid, max(forgotten_by) AS who, max(request) AS request FROM things
              WHERE state = 'forgotten' GROUP BY cluster_uid) t ON t.cluster_uid = c.uid
        WHERE c.status = 'DOWN'
        """
    )
