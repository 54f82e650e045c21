"""Articles: who translated one, and which paper had it first; editions: which pictures of ours they show"""

from __future__ import annotations

import json
import re

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_COLUMNS = ("translator", "paper")
_OURS = re.compile(r"/media/([0-9a-f]{32})\.jpg")


def upgrade() -> None:
    with op.batch_alter_table("article") as article:
        for name in _COLUMNS:
            article.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
    # The default was for the rows that were there; new rows name every column.
    with op.batch_alter_table("article") as article:
        for name in _COLUMNS:
            article.alter_column(name, existing_type=sa.Text(), server_default=None)
    shown = op.create_table(
        "edition_picture",
        sa.Column("picture", sa.String(), nullable=False),
        sa.Column("edition_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["edition.id"]),
        sa.PrimaryKeyConstraint("picture", "edition_id"),
    )
    edition = sa.table("edition", sa.column("id", sa.Integer()), sa.column("snapshot", sa.JSON()))
    connection = op.get_bind()
    for (number,) in connection.execute(sa.select(edition.c.id)).all():
        snapshot = connection.execute(sa.select(edition.c.snapshot).where(edition.c.id == number)).scalar()
        rows = [
            {"picture": picture, "edition_id": number}
            for picture in sorted(set(_OURS.findall(json.dumps(snapshot))))
        ]
        if rows:
            op.bulk_insert(shown, rows)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
