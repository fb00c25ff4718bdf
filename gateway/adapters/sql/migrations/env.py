"""Alembic's entry: runs on the connection that gateway.adapters.sql.engine hands in."""

from alembic import context

from gateway.adapters.sql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
