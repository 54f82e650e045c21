"""Pictures that are served by us, and where each came from; files made of an edition"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "picture",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "picture_source",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("picture", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tried_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["picture"], ["picture.hash"]),
        sa.PrimaryKeyConstraint("url"),
    )
    op.create_table(
        "edition_file",
        sa.Column("edition_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["edition.id"]),
        sa.PrimaryKeyConstraint("edition_id", "kind"),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
