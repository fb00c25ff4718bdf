"""Webhooks of projects, and the outbox of what they are told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("thresholds", sa.JSON, nullable=False),
        sa.Column("secret_id", sa.String(32), nullable=False),
        sa.Column("previous_secret_id", sa.String(32)),
        sa.Column("previous_until", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("disabled_at", _TIME),
        sa.PrimaryKeyConstraint("project_id", name="pk_webhooks"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_webhooks_project_id_projects"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("limit", sa.String(32)),
        sa.Column("period", sa.String(16)),
        sa.Column("period_ends", _TIME),
        sa.Column("threshold", sa.Integer),
        sa.Column("amount", sa.BigInteger),
        sa.Column("used", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("tries_left", sa.Integer, nullable=False),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.Text),
        sa.Column("last_tried_at", _TIME),
        sa.Column("next_try_at", _TIME),
        sa.Column("delivered_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sa.UniqueConstraint(
            *("project_id", "limit", "period", "threshold", "amount"),
            name="uq_webhook_deliveries_project_id_limit_period_threshold_amount",
        ),
    )
    op.create_index("ix_webhook_deliveries_next_try_at", "webhook_deliveries", ["next_try_at"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
