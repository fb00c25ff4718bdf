"""Sums of the ledger by hour and by day, and of the lines that are not kept any more."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WORDS: dict[str, sa.types.TypeEngine[str]] = {
    "project_id": sa.String(32),
    "key_id": sa.String(32),
    "upstream_model": sa.Text(),
    "source": sa.String(64),
    "outcome": sa.String(16),
    "size": sa.String(32),
    "end_user_hash": sa.String(64),
    "cost_currency": sa.String(8),
    "currency": sa.String(8),
}
AMOUNTS = ("requests", "delivered", "paid", "uncertain", "cost", "price")
NOT_IN = {
    "usage_hours": {"size", "end_user_hash"},
    "usage_hours_by_size": {"key_id", "outcome", "end_user_hash"},
    "usage_days": {"size", "end_user_hash"},
    "usage_days_by_size": {"key_id", "outcome", "end_user_hash"},
    "usage_archive": set[str](),
}
HOURS_OF_LINES = {
    "postgresql": "date_trunc('hour', time AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
    "sqlite": "substr(time, 1, 13) || ':00:00.000000'",
}


def upgrade() -> None:
    for name, missing in NOT_IN.items():
        create_sums(name, [word for word in WORDS if word not in missing])
    op.create_index("ix_usage_archive_time", "usage_archive", ["time"])
    op.create_table(
        "usage_stale",
        sa.Column("period", sa.String(4), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("period", "time", name="pk_usage_stale"),
    )
    hour = HOURS_OF_LINES[op.get_bind().dialect.name]
    op.execute(f"INSERT INTO usage_stale SELECT DISTINCT 'hour', {hour} FROM usage_events")  # noqa: S608 - our own words


def create_sums(name: str, words: list[str]) -> None:
    primary_key = [] if name == "usage_archive" else [sa.PrimaryKeyConstraint("time", *words, name=f"pk_{name}")]
    op.create_table(
        name,
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(word, WORDS[word], nullable=False) for word in words),
        *(sa.Column(amount, sa.BigInteger(), nullable=False) for amount in AMOUNTS),
        *primary_key,
    )
    for column in {"project_id", "key_id"} & set(words):
        op.create_index(f"ix_{name}_{column}_time", name, [column, "time"])


def downgrade() -> None:
    """What only the archive knows is lost."""
    for name in ("usage_stale", *NOT_IN):
        op.drop_table(name)
