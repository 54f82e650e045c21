"""The archive is searched: an index of words, kept by the database itself"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX ix_archive_text_words ON archive_text USING gin (to_tsvector('simple', title || ' ' || words))"
        )
        return
    op.execute(
        "CREATE VIRTUAL TABLE archive_index USING fts5(title, words, content='archive_text', content_rowid='edition_id', "
        "tokenize='unicode61 remove_diacritics 2')"
    )
    put = "INSERT INTO archive_index(rowid, title, words) VALUES (new.edition_id, new.title, new.words);"
    take = (
        "INSERT INTO archive_index(archive_index, rowid, title, words) "
        "VALUES ('delete', old.edition_id, old.title, old.words);"
    )
    op.execute(f"CREATE TRIGGER archive_text_put AFTER INSERT ON archive_text BEGIN {put} END")
    op.execute(f"CREATE TRIGGER archive_text_take AFTER DELETE ON archive_text BEGIN {take} END")
    op.execute(f"CREATE TRIGGER archive_text_change AFTER UPDATE ON archive_text BEGIN {take} {put} END")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup instead.")
