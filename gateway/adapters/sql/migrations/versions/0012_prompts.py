"""The prompt of a line, where the installation keeps prompts."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usage_events", sa.Column("prompt", sa.Text()))


def downgrade() -> None:
    op.drop_column("usage_events", "prompt")
