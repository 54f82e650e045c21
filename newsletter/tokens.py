"""Keep what feeds say from being taken for a token: ours, Jinja's or a provider's."""

from __future__ import annotations

import re

_JOINER = "\u2060"  # WORD JOINER: invisible, no line break
_OPENING = re.compile(r"\{(?=[{%#])|\[(?=\[)|[%}#](?=\})|[<*](?=[%|])|[%|](?=[>*])")

_ESCAPED_OPENING = re.compile(r"&lt;(?=%)|%(?=&gt;)")
# RFC 3986 allows none of these in an address, where an invisible joiner would lead elsewhere.
_IN_ADDRESS = str.maketrans({letter: f"%{ord(letter):02X}" for letter in '[]{}<>|"\\^` '})


def neutralise(text: str) -> str:
    """Return *text* with an invisible joiner inside every ``{{ }} {% %} [[ <% %> *| |*``."""
    return _OPENING.sub(lambda match: match[0] + _JOINER, text)


def neutralise_fragment(html: str) -> str:
    """The same for sanitised HTML, where ``<%`` is written ``&lt;%``."""
    return neutralise(_ESCAPED_OPENING.sub(lambda match: match[0] + _JOINER, html))


def neutralise_address(url: str) -> str:
    """The same for an address: what could be a token, or is allowed in none, is escaped."""
    return url.translate(_IN_ADDRESS)
