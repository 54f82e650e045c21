"""The readers' door: one-time links, sessions, limits, programs, the searchable archive, imports that go on"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("subscriber", table_kwargs={"sqlite_autoincrement": True}) as subscriber:
        subscriber.add_column(sa.Column("pending_email", sa.Text(), nullable=False, server_default=""))
        subscriber.add_column(sa.Column("paused_until", Instant(), nullable=True))
        subscriber.add_column(sa.Column("deliver_at", sa.String(), nullable=False, server_default=""))
    # The defaults were for the rows that were there; new rows name every column.
    with op.batch_alter_table("subscriber", table_kwargs={"sqlite_autoincrement": True}) as subscriber:
        subscriber.alter_column("pending_email", existing_type=sa.Text(), server_default=None)
        subscriber.alter_column("deliver_at", existing_type=sa.String(), server_default=None)
    op.create_table(
        "one_time_link",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("subscriber_id", sa.Integer(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("used_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"]),
        sa.PrimaryKeyConstraint("secret_hash"),
    )
    op.create_index("ix_one_time_link_subscriber_id", "one_time_link", ["subscriber_id"])
    op.create_index("ix_one_time_link_expires_at", "one_time_link", ["expires_at"])
    op.create_table(
        "reader_session",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("subscriber_id", sa.Integer(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"]),
        sa.PrimaryKeyConstraint("secret_hash"),
    )
    op.create_index("ix_reader_session_subscriber_id", "reader_session", ["subscriber_id"])
    op.create_index("ix_reader_session_expires_at", "reader_session", ["expires_at"])
    op.create_table(
        "attempts",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "window"),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("secret_hash"),
    )
    op.create_table(
        "idempotent_request",
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["api_token.id"]),
        sa.PrimaryKeyConstraint("token_id", "key"),
    )
    op.create_index("ix_idempotent_request_made_at", "idempotent_request", ["made_at"])
    op.create_table(
        "archive_text",
        sa.Column("edition_id", sa.Integer(), nullable=False),
        sa.Column("newsletter", sa.String(), nullable=False),
        sa.Column("edition_date", sa.Date(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["edition.id"]),
        sa.PrimaryKeyConstraint("edition_id"),
    )
    op.create_index("ix_archive_text_newsletter", "archive_text", ["newsletter"])
    op.create_table(
        "import_run",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("rows_done", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("is_finished", sa.Boolean(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead: consent and sessions made since would be lost.")
