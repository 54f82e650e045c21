"""Articles: who translated one, and which paper had it first"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COLUMNS = ("translator", "paper")


def upgrade() -> None:
    with op.batch_alter_table("article") as article:
        for name in _COLUMNS:
            article.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
    # The default was for the rows that were there; new rows name every column.
    with op.batch_alter_table("article") as article:
        for name in _COLUMNS:
            article.alter_column(name, existing_type=sa.Text(), server_default=None)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
