"""Projects, limits, what a key may do, the ledger, and what the installation knows of itself."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LONGEST_NAME = 100


def limits() -> list[sa.Column[int]]:
    counted = ("requests_per_minute", "images_per_minute", "images_per_day", "images_per_month", "concurrent")
    return [sa.Column(name, sa.BigInteger()) for name in (*counted, "spend_per_month")]


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_installation"),
    )
    create_projects()
    extend_keys()
    create_usage_events()


def downgrade() -> None:
    op.drop_table("usage_events")
    op.drop_index("ix_keys_project_id_name", "keys")
    with op.batch_alter_table("keys") as keys:
        keys.drop_constraint("fk_keys_project_id_projects", type_="foreignkey")
        for name in (
            *("project_id", "previous_digest", "previous_until", "last_used_at", "models", "ips", "cache_scope"),
            *("unwatermarked_allowed", "metadata", "shadow"),
            *(column.name for column in limits()),
        ):
            keys.drop_column(name)
    op.drop_table("projects")
    op.drop_table("installation")


def create_projects() -> None:
    """Make the table and the project that keys belong to when nothing else is said."""
    projects = op.create_table(
        "projects",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True)),
        sa.Column("models", sa.JSON(), nullable=False),
        *limits(),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
    )
    default = {"id": "proj_default", "name": "default", "created_at": sa.func.now(), "models": [], "shadow": False}
    op.execute(sa.insert(projects).values(default))


def extend_keys() -> None:
    """Give every key its new columns; rows that exist get the values of a key without limits."""
    required: dict[str, tuple[sa.types.TypeEngine[Any], str | sa.TextClause]] = {
        "project_id": (sa.String(32), "proj_default"),
        "models": (sa.JSON(), "[]"),
        "ips": (sa.JSON(), "[]"),
        "unwatermarked_allowed": (sa.Boolean(), sa.text("false")),
        "metadata": (sa.JSON(), "{}"),
        "shadow": (sa.Boolean(), sa.text("false")),
    }
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("previous_digest", sa.LargeBinary(32)))
        keys.add_column(sa.Column("previous_until", sa.DateTime(timezone=True)))
        keys.add_column(sa.Column("last_used_at", sa.DateTime(timezone=True)))
        keys.add_column(sa.Column("cache_scope", sa.String(16)))
        for column in limits():
            keys.add_column(column)
        for name, (kind, value) in required.items():
            keys.add_column(sa.Column(name, kind, nullable=False, server_default=value))
    make_names_unique()
    with op.batch_alter_table("keys") as keys:
        for name, (kind, _) in required.items():
            keys.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)
        keys.create_foreign_key("fk_keys_project_id_projects", "projects", ["project_id"], ["id"])
    not_revoked = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_keys_project_id_name",
        "keys",
        ["project_id", "name"],
        unique=True,
        sqlite_where=not_revoked,
        postgresql_where=not_revoked,
    )


def make_names_unique() -> None:
    """Until now two keys could have one name: of those that still open, all but the first get their id behind it."""
    keys = sa.table("keys", sa.column("id"), sa.column("name"), sa.column("created_at"), sa.column("revoked_at"))
    query = sa.select(keys.c.id, keys.c.name).where(keys.c.revoked_at.is_(None))
    connection, seen = op.get_bind(), set()
    for key_id, name in connection.execute(query.order_by(keys.c.created_at, keys.c.id)).all():
        if name in seen:
            ending = f" {key_id}"
            changed = name[: LONGEST_NAME - len(ending)] + ending
            connection.execute(sa.update(keys).where(keys.c.id == key_id).values(name=changed))
        seen.add(name)


def create_usage_events() -> None:
    op.create_table(
        "usage_events",
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=False),
        sa.Column("upstream_model", sa.Text(), nullable=False),
        sa.Column("upstream_account", sa.Text(), nullable=False),
        sa.Column("size", sa.String(32), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("pictures_requested", sa.Integer(), nullable=False),
        sa.Column("pictures_delivered", sa.Integer(), nullable=False),
        sa.Column("pictures_paid", sa.Integer(), nullable=False),
        sa.Column("cache", sa.String(16), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("cost_currency", sa.String(8), nullable=False),
        sa.Column("cost_uncertain", sa.Boolean(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False),
        sa.Column("queue_ms", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("end_user_hash", sa.String(64), nullable=False),
        sa.Column("prompt_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_usage_events"),
    )
    for columns in (["project_id", "time"], ["key_id", "time"], ["time"]):
        op.create_index(f"ix_usage_events_{'_'.join(columns)}", "usage_events", columns)
