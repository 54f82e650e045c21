"""Keep what feeds say from being taken for a token: ours, Jinja's or a provider's."""

from __future__ import annotations

import re

_JOINER = "\u2060"  # WORD JOINER: invisible, no line break
_OPENING = re.compile(r"\{(?=[{%#])|\[(?=\[)|[%}#](?=\})|[<*](?=[%|])|[%|](?=[>*])")


def neutralise(text: str) -> str:
    """Return *text* with an invisible joiner inside every ``{{ }} {% %} [[ <% %> *| |*``."""
    return _OPENING.sub(lambda match: match[0] + _JOINER, text)
