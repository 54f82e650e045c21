"""The editor's desk: orders that can be undone, approvals from the mail, what was said aloud"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("editor_order") as order:
        order.add_column(sa.Column("undone_at", Instant(), nullable=True))
        order.add_column(sa.Column("undone_by", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("edition") as edition:
        edition.add_column(sa.Column("despite", sa.JSON(), nullable=False, server_default="[]"))
    # The defaults were for the rows that were there; new rows name every column.
    with op.batch_alter_table("editor_order") as order:
        order.alter_column("undone_by", existing_type=sa.String(), server_default=None)
    with op.batch_alter_table("edition") as edition:
        edition.alter_column("despite", existing_type=sa.JSON(), server_default=None)
    op.create_table(
        "approval_link",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("edition_id", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("editor", sa.String(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("used_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["edition_id"], ["edition.id"]),
        sa.PrimaryKeyConstraint("secret_hash"),
    )
    op.create_index("ix_approval_link_edition_id", "approval_link", ["edition_id"])
    op.create_index("ix_approval_link_expires_at", "approval_link", ["expires_at"])
    op.create_table(
        "told",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
