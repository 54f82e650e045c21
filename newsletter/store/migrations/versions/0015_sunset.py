"""Sunset: what was done about readers who show no sign of life"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "sunset_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subscriber_id", sa.Integer(), sa.ForeignKey("subscriber.id"), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("quiet_since", Instant(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sunset_step_subscriber_id", "sunset_step", ["subscriber_id"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
