"""Delivery: release times, reservations, attempts given up, pace, engagement, when an event came"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pace",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("minute", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "minute"),
    )
    op.create_table(
        "cancellation",
        sa.Column("reservation", sa.String(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("release_at", Instant(), nullable=False),
        sa.Column("cancelled_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"]),
        sa.PrimaryKeyConstraint("reservation"),
    )
    op.create_index("ix_cancellation_batch_id", "cancellation", ["batch_id"])
    zero = sa.text("0")
    with op.batch_alter_table("batch") as batch:
        batch.add_column(sa.Column("rank", sa.Integer(), nullable=False, server_default=zero))
        batch.add_column(sa.Column("release_at", Instant(), nullable=True))
        batch.add_column(sa.Column("reservation", sa.String(), nullable=False, server_default=""))
        batch.add_column(sa.Column("given_up", sa.Integer(), nullable=False, server_default=zero))
        batch.add_column(sa.Column("doubled_n", sa.Integer(), nullable=False, server_default=zero))
    with op.batch_alter_table("subscriber") as subscriber:
        subscriber.add_column(sa.Column("engaged_at", Instant(), nullable=True))
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("received_at", Instant(), nullable=True))
    op.execute("UPDATE event SET received_at = occurred_at")
    with op.batch_alter_table("event") as event:
        event.alter_column("received_at", existing_type=Instant(), nullable=False)
        event.create_index("ix_event_reader", ["reader", "edition"])
    # The defaults were for the rows that were there; new rows name every column.
    with op.batch_alter_table("batch") as batch:
        for name in ("rank", "given_up", "doubled_n"):
            batch.alter_column(name, existing_type=sa.Integer(), server_default=None)
        batch.alter_column("reservation", existing_type=sa.String(), server_default=None)
        batch.drop_index("ix_batch_state")
        batch.create_index("ix_batch_state", ["state", "changed_at"])
        batch.create_index("ix_batch_turn", ["edition_id", "state", "rank", "trailing", "seq"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead: what was sent since would be lost.")
