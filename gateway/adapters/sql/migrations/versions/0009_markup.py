"""Markups of projects, and which account took how much for a line's pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("markup", sa.BigInteger(), nullable=False, server_default="1000000"))
    op.add_column("usage_events", sa.Column("account_costs", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("usage_events", "account_costs")
    op.drop_column("projects", "markup")
