"""Shares of projects in the upstream's slots."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("projects", "weight")
