"""The readers' door: addresses a subscriber had before, as hashes, so that erasure covers them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "former_address",
        sa.Column("subscriber_id", sa.Integer(), nullable=False),
        sa.Column("address_hash", sa.String(), nullable=False),
        sa.Column("until", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"]),
        sa.PrimaryKeyConstraint("subscriber_id", "address_hash"),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
