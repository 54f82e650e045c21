"""
``/api/v1`` for the publisher's own programs: a bearer token, JSON in and out, problems by RFC 9457.

``operations`` say what there is, ``subscribers`` and ``publishing`` do it, ``routes`` stand before them,
``openapi`` describes them from the same table. No cookie is read or set here, and no page is answered.
"""
