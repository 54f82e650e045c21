"""``/media/<hash>.jpg``: the pictures of our mails, which never change under their name."""

from __future__ import annotations

from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from newsletter.store.pictures import picture_bytes
from newsletter.store.session import reading

_FOREVER = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "cross-origin",  # mailboxes in browsers show them
    "Content-Security-Policy": "default-src 'none'",
}


class Media:
    """The handler of pictures."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def routes(self) -> list[BaseRoute]:
        """The routes of this room."""
        return [Route("/media/{name}.jpg", self.picture, methods=["GET"])]

    def picture(self, request: Request) -> Response:
        """One picture, to be kept by whoever got it."""
        name = request.path_params["name"]
        etag = f'"{name}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={**_FOREVER, "ETag": etag})
        with reading(self.engine) as session:
            data = picture_bytes(session, name)
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/jpeg", headers={**_FOREVER, "ETag": etag})
