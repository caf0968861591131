"""A cluster remembers in which namespace it was made.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0001 to 0002."""
    op.add_column("clusters", sa.Column("namespace", sa.Text(), server_default="", nullable=False))
