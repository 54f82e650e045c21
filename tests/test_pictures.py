"""Pictures: what is kept of them, what is refused, and how they are served."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from sqlalchemy import Engine
from sqlmodel import select

from newsletter.errors import SourceError
from newsletter.feeds.pictures import MOST_BYTES, WIDEST, keep_pictures, prepare, prune_pictures
from newsletter.settings import Settings
from newsletter.store.pictures import picture_bytes
from newsletter.store.session import reading, writing
from newsletter.store.tables import EditionPicture, EditionRow, Picture, PictureSource
from newsletter.web.media import Media
from tests.builders import ROOT, ask

AT = datetime(2026, 11, 20, 4, tzinfo=UTC)
SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]  # pydantic-settings' own
NEAR = SETTINGS.model_copy(update={"allow_private_sources": True})


def _encoded(kind: str, size: tuple[int, int], mode: str = "RGB", **more: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "size", "mode"),
    [("JPEG", (1600, 1000), "RGB"), ("PNG", (640, 900), "RGBA"), ("GIF", (320, 200), "P"), ("WEBP", (200, 200), "RGB")],
)  # fmt: skip
def test_a_picture_becomes_a_small_jpeg(kind: str, size: tuple[int, int], mode: str) -> None:
    """Of whatever kind: within both limits, in its own proportions, always the same."""
    data = _encoded(kind, size, mode)

    made = prepare(data)
    opened = Image.open(io.BytesIO(made.data))

    assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (made.width, made.height))
    assert made.width <= min(WIDEST, size[0]) and len(made.data) <= MOST_BYTES
    assert abs(made.height / made.width - size[1] / size[0]) < 0.01
    prepare.cache_clear()
    assert prepare(data) == made


def test_nothing_but_the_picture_is_kept() -> None:
    """Where it was taken, with what and a thumbnail go; which way up it was held counts."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    exif.get_ifd(0x8825)[1] = "N"

    made = prepare(_encoded("JPEG", (400, 300), exif=exif.tobytes(), comment=b"secret"))
    opened = Image.open(io.BytesIO(made.data))

    assert (opened.size, dict(opened.getexif()), opened.info.get("comment")) == ((300, 400), {}, None)
    assert b"camera" not in made.data and b"secret" not in made.data


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<svg/>", "no picture"), (b"", "no picture"), (_encoded("JPEG", (300, 200))[:900], "no picture"),
        (_encoded("PNG", (1, 1)), "only 1 pixels"), (_encoded("PNG", (12_000, 5_001), "1"), "12000 × 5001"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(data: bytes, told: str) -> None:
    """A page, a torn file, a pixel that counts readers, and what would not fit into memory."""
    with pytest.raises(SourceError, match=told):
        prepare(data)


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """A site on this machine with one picture, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = _encoded("PNG", (200, 100)) if self.path == "/there.png" else b""
            self.send_response(200 if data else 404)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_picture_is_asked_for_once_and_a_lost_one_again_later(
    engine: Engine, site: tuple[str, list[str]]
) -> None:
    """What is kept is not asked for again; what could not be had is, after an hour."""
    base, asked = site
    wanted = [f"{base}/there.png", f"{base}/gone.png"]

    first = keep_pictures(engine, wanted, folder=None, settings=NEAR, at=AT)
    keep_pictures(engine, wanted, folder=None, settings=NEAR, at=AT + timedelta(minutes=59))
    keep_pictures(engine, wanted, folder=None, settings=NEAR, at=AT + timedelta(minutes=61))

    assert (first[wanted[0]].width, first[wanted[0]].height) == (200, 100) and len(
        first[wanted[0]].hash
    ) == 32
    assert first[wanted[1]].hash == "" and "404" in first[wanted[1]].reason
    assert sorted(asked) == ["/gone.png", "/gone.png", "/there.png"]


def test_old_pictures_go_but_what_was_sent_stays(engine: Engine) -> None:
    """After its days a picture goes that no sent edition shows and nothing wanted; it may come back."""
    folder = ROOT / "samples" / "pictures"
    addresses = [
        f"https://media.theparallel.example/{name}.jpg" for name in ("dam", "choir", "glacier", "reef")
    ]
    kept = keep_pictures(engine, addresses, folder=folder, settings=SETTINGS, at=AT)
    sent, draft, wanted, _ = [kept[one].hash for one in addresses]
    keep_pictures(engine, ["https://127.0.0.1/gone.jpg"], folder=None, settings=SETTINGS, at=AT)
    keep_pictures(engine, addresses[2:3], folder=folder, settings=SETTINGS, at=AT + timedelta(days=20))
    with writing(engine) as session:
        for number, (picture, frozen_at) in enumerate(((sent, AT), (draft, None)), 1):
            day = AT.date() + timedelta(days=number)
            session.add(
                EditionRow(id=number, newsletter="today", edition_date=day, made_at=AT, frozen_at=frozen_at)
            )
            session.flush()
            session.add(EditionPicture(picture=picture, edition_id=number))

    early = prune_pictures(engine, now=AT + timedelta(days=29), keep=timedelta(days=30))
    late = prune_pictures(engine, now=AT + timedelta(days=31), keep=timedelta(days=30))

    with reading(engine) as session:
        assert (early, late) == (0, 2)
        assert set(session.exec(select(Picture.hash))) == {sent, wanted}
        assert {one.url for one in session.exec(select(PictureSource))} == {addresses[0], addresses[2]}
    again = keep_pictures(engine, addresses, folder=folder, settings=SETTINGS, at=AT + timedelta(days=32))
    assert again.keys() == set(addresses) and all(one.hash for one in again.values())


def test_private_addresses_are_not_asked(engine: Engine, site: tuple[str, list[str]]) -> None:
    """The same guard as for feeds."""
    base, asked = site

    (kept,) = keep_pictures(engine, [f"{base}/there.png"], folder=None, settings=SETTINGS, at=AT).values()

    assert (kept.hash, asked) == ("", []) and "private" in kept.reason


def test_a_kept_picture_is_served_for_good(engine: Engine) -> None:
    """From the publication's own folder, under its hash, with a long life; nothing else is."""
    address = "https://media.theparallel.example/dam.jpg"
    folder = ROOT / "samples" / "pictures"
    (kept,) = keep_pictures(engine, [address], folder=folder, settings=SETTINGS, at=AT).values()
    app = _app(engine)

    answer = ask(app, "GET", f"/media/{kept.hash}.jpg")
    again = ask(app, "GET", f"/media/{kept.hash}.jpg", headers={"If-None-Match": answer.headers["etag"]})

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    with reading(engine) as session:
        assert answer.content == picture_bytes(session, kept.hash)
    assert (again.status_code, again.content) == (304, b"")
    assert ask(app, "GET", f"/media/{'0' * 32}.jpg").status_code == 404


def test_a_file_outside_the_folder_is_not_read(engine: Engine, tmp_path: Path) -> None:
    """Only the name of an address counts, so it cannot climb."""
    (tmp_path / "secret.png").write_bytes(_encoded("PNG", (200, 100)))
    (tmp_path / "pictures").mkdir()
    address = "https://127.0.0.1/..%2Fsecret.png"

    (kept,) = keep_pictures(
        engine, [address], folder=tmp_path / "pictures", settings=SETTINGS, at=AT
    ).values()

    assert kept.hash == ""


def _app(engine: Engine):  # type: ignore[no-untyped-def]
    from starlette.applications import Starlette

    return Starlette(routes=Media(engine).routes())
