"""A cluster remembers how its nodes are made and where its ports are; volumes have rows of their own.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0003 to 0004."""
    op.add_column("clusters", sa.Column("provision", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("clusters", sa.Column("endpoints", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("clusters", sa.Column("endpoints_at", sa.Float(53), nullable=True))
    op.create_table(
        "volumes",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("infra", sa.Text(), nullable=False),
        sa.Column("kubeconfig", sa.JSON(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="", nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("observed_at", sa.Float(53), nullable=True),
        sa.Column("closed_at", sa.Float(53), nullable=True),
        sa.Column("last_error", sa.JSON(), nullable=True),
        sa.CheckConstraint(
            "status IN ('INTENDED', 'READY', 'DELETING', 'GONE')", name=op.f("volumes_status")
        ),
        sa.CheckConstraint(
            "(status = 'GONE') = (closed_at IS NOT NULL)", name=op.f("volumes_closed_when_gone")
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("volumes_pkey")),
    )
    op.create_index(
        "volumes_one_open_per_name",
        "volumes",
        ["name"],
        unique=True,
        sqlite_where=sa.text("status <> 'GONE'"),
        postgresql_where=sa.text("status <> 'GONE'"),
    )
