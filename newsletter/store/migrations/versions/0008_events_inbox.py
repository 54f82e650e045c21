"""What came back: an inbox for what the provider posts, and what numbers are counted by"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "counted",
        sa.Column("newsletter", sa.String(), nullable=False),
        sa.Column("edition_date", sa.Date(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.Column("counted_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("newsletter", "edition_date"),
    )
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("link", sa.Text(), nullable=False, server_default=""))
        event.add_column(sa.Column("client", sa.String(), nullable=False, server_default=""))
        event.add_column(sa.Column("is_machine", sa.Boolean(), nullable=False, server_default=sa.false()))
    # The defaults were for the rows that were there; new rows name every column.
    with op.batch_alter_table("event") as event:
        event.alter_column("link", existing_type=sa.Text(), server_default=None)
        event.alter_column("client", existing_type=sa.String(), server_default=None)
        event.alter_column("is_machine", existing_type=sa.Boolean(), server_default=None)
        event.create_index("ix_event_edition", ["edition", "kind"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
