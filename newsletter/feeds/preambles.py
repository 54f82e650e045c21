"""What agencies and blog software put around a text that is not of it: who reports, from where, and the way back."""

from __future__ import annotations

import re
from typing import NamedTuple

_PLACE = r"[^\W\d_][\w .'’\-]{1,40}(?:, [^\W\d_][\w .'’\-]{1,30})?"
_CAPITALS = r"[^\W\d_a-z][^\W\d_a-z.'’\-]{2}"
_DASH = r"\s+[-–—]{1,2}\s+(?=\S)"
# [Capital FM] Nairobi -- Pilots have warned of …
_IN_BRACKETS = re.compile(rf"\[(?P<paper>[^\[\]]{{2,60}})\]\s+(?P<place>(?![a-z]){_PLACE})?\s+--\s+(?=\S)")
# By Laila Bassam and Tala RamadanDUBAI, Feb 17 (Reuters) - Armed group Hezbollah …
_BEFORE_AGENCY = re.compile(
    rf"(?:By (?P<byline>[^()]{{3,120}}?)\s*)?(?P<place>{_CAPITALS}[^()]{{0,60}}?)"
    rf"(?:,? [^\W\d_]{{3,9}}\.? \d{{1,2}})?\s*\((?P<paper>[^()]{{2,30}})\){_DASH}"
)
_AGENCIES = {
    "reuters", "ap", "associated press", "afp", "dpa", "efe", "ansa", "lusa", "tass", "xinhua", "kyodo", "yonhap", "pti",
    "ani", "ians", "upi", "bloomberg", "folhapress", "anp", "belga", "apa", "ntb", "tt", "ritzau", "kuna", "wam", "irna",
    "thomson reuters foundation", "cnn", "rfe/rl", "ips", "ana", "ukrinform", "interfax", "anadolu", "aa", "europa press",
}  # fmt: skip
# What WordPress puts at the end of each entry, cut off or not.
_WAY_BACK = re.compile(
    r"\s*(?:The post|L['’]articolo|L['’]article|La entrada|Der Beitrag|O post) .{1,300}? "
    r"(?:appeared first on|first appeared on|proviene da|sembra essere il primo su|est apparu en premier sur|"
    r"(?:se publicó|aparece) primero en|erschien zuerst auf|apareceu primeiro em) .{1,100}$"
)
# Cut off by its paper's software, with a link to the whole: "… enguiçado.P... Leia mais no Massa News!"
_READ_ON = re.compile(
    r"(?:\.{3}|…|\[…\]|\[\.{3}\])\s*(?:Leia mais|Saiba mais|Read more|Continue reading|Keep reading|Lire la suite|Leer más|"
    r"Seguir leyendo|Weiterlesen|Mehr lesen|Leggi tutto|Continua a leggere|Читать далее|Подробнее|اقرأ المزيد)\b.{0,100}$",
    re.IGNORECASE,
)
_RAG = re.compile(r"(?<=[^\W\d_A-Z]{3}[.!?])\s*\w{0,3}…$")  # … and a letter or two of the next sentence


class Parted(NamedTuple):
    """A text, and what stood before it; '' where it did not."""

    text: str
    place: str = ""
    paper: str = ""
    byline: str = ""


def parted(text: str) -> Parted:
    """*text*, plain and on one line, without what agencies and blog software put around it."""
    text = _RAG.sub("", _READ_ON.sub("…", _WAY_BACK.sub("", text)))
    found = _IN_BRACKETS.match(text) or _BEFORE_AGENCY.match(text)
    if found is None:
        return Parted(text)
    said = found.groupdict("")
    if text[0] != "[" and said["paper"].casefold() not in _AGENCIES:
        return Parted(text)
    return Parted(
        text[found.end() :], said["place"].strip(" ,"), said["paper"], said.get("byline", "").strip(" ,")
    )
