"""Reports: how alive readers were, week by week"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "cohort_week",
        sa.Column("newsletter", sa.String(), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("new_n", "active_n", "cooling_n", "gone_n")
        ),
        sa.PrimaryKeyConstraint("newsletter", "week"),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
