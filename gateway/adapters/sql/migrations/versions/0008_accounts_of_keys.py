"""Service accounts that have further keys."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("account", sa.String(32)))


def downgrade() -> None:
    op.drop_column("keys", "account")
