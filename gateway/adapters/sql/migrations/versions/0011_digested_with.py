"""With which of the installation's secrets the digests of keys were made; of earlier ones it is not known."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("keys", "admin_keys"):
        op.add_column(table, sa.Column("digested_with", sa.String(16)))


def downgrade() -> None:
    for table in ("keys", "admin_keys"):
        op.drop_column(table, "digested_with")
