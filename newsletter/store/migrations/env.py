"""Alembic's entry: runs on the connection that ``store.session`` hands over, or on DATABASE_URL."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from newsletter.store import tables as _tables  # noqa: F401  # registers the models

connection = context.config.attributes.get("connection")
if connection is None:
    from newsletter.settings import load_settings
    from newsletter.store.session import open_store

    engine = open_store(load_settings().database_url, migrate=False)
    connection = engine.execution_options(writes=True).connect()

context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
