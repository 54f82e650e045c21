"""Subjects: several are tried on a sample, the rest gets the one that did best"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from newsletter.store.tables import Instant

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "subject_test",
        sa.Column("edition_id", sa.Integer(), sa.ForeignKey("edition.id"), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("wait_minutes", sa.Integer(), nullable=False),
        sa.Column("early", sa.Boolean(), nullable=False),
        sa.Column("until", Instant(), nullable=True),
        sa.Column("looked_at", Instant(), nullable=True),
        sa.Column("chosen", sa.String(), nullable=False),
        sa.Column("chosen_at", Instant(), nullable=True),
        sa.Column("chosen_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("edition_id"),
    )
    with op.batch_alter_table("batch") as batch:
        batch.add_column(sa.Column("subject", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("rendering") as rendering:
        rendering.add_column(sa.Column("other_subjects", sa.JSON(), nullable=False, server_default="[]"))
    # The defaults were for the rows that were there; new rows name every column.
    with op.batch_alter_table("batch") as batch:
        batch.alter_column("subject", existing_type=sa.String(), server_default=None)
    with op.batch_alter_table("rendering") as rendering:
        rendering.alter_column("other_subjects", existing_type=sa.JSON(), server_default=None)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
