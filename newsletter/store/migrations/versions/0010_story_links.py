"""Stories: an editor's word on what belongs together and what does not"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "story_link",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("together", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("given_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("url", "other"),
    )
    with op.batch_alter_table("edition_story") as told:
        told.add_column(sa.Column("story", sa.String(), nullable=False, server_default=""))
    # The default was for the rows that were there; new rows name every column.
    with op.batch_alter_table("edition_story") as told:
        told.alter_column("story", existing_type=sa.String(), server_default=None)
    op.create_index("ix_article_story", "article", ["story"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
