"""
The MJML that mjml-python compiles: tags, where they belong, and their attributes (MJML 4).

Source: the MJML 4 documentation's component pages; what mjml-python 1.4.2 silently gets wrong is left
out on purpose (RENDERING §1.4), so that the linter names it.
"""

from __future__ import annotations

_PADDING = "padding padding-top padding-right padding-bottom padding-left"
_COMMON = "css-class mj-class"
_FONT = "color font-family font-size font-style font-weight letter-spacing line-height text-decoration text-transform"
_BACKGROUND = "background-color background-url background-repeat background-size background-position background-position-x background-position-y"
_BORDER = "border border-top border-right border-bottom border-left border-radius"

ATTRIBUTES: dict[str, frozenset[str]] = {
    tag: frozenset(words.split())
    for tag, words in {
        "mjml": "lang dir owa version",
        "mj-head": "",
        "mj-body": "width background-color",
        "mj-attributes": "",
        "mj-all": f"{_FONT} {_PADDING} align",
        "mj-class": f"name {_FONT} {_PADDING} {_BACKGROUND} {_BORDER} align vertical-align width height inner-padding container-background-color",
        "mj-breakpoint": "width",
        "mj-font": "name href",
        "mj-preview": "",
        "mj-title": "",
        "mj-style": "",
        "mj-raw": "",
        "mj-section": f"{_COMMON} {_BACKGROUND} {_BORDER} {_PADDING} direction full-width text-align",
        "mj-wrapper": f"{_COMMON} {_BACKGROUND} {_BORDER} {_PADDING} full-width text-align",
        "mj-column": f"{_COMMON} background-color inner-background-color {_BORDER} inner-border inner-border-radius {_PADDING} vertical-align width direction",
        "mj-group": f"{_COMMON} background-color direction vertical-align width",
        "mj-text": f"{_COMMON} {_FONT} {_PADDING} align height container-background-color",
        "mj-button": f"{_COMMON} {_FONT} {_PADDING} {_BORDER} align background-color container-background-color height href rel target name inner-padding text-align vertical-align width",
        "mj-image": f"{_COMMON} {_PADDING} {_BORDER} align alt container-background-color fluid-on-mobile height href max-height rel src srcset target title usemap width",
        "mj-divider": f"{_COMMON} {_PADDING} align border-color border-style border-width container-background-color width",
        "mj-spacer": f"{_COMMON} {_PADDING} container-background-color height",
        "mj-table": f"{_COMMON} {_PADDING} align border cellpadding cellspacing color container-background-color font-family font-size font-style line-height table-layout width",
        "mj-hero": f"{_COMMON} {_BACKGROUND} background-height background-width border-radius height inner-background-color inner-padding {_PADDING} mode vertical-align width",
        "mj-social": f"{_COMMON} {_PADDING} align border-radius color container-background-color font-family font-size font-style font-weight icon-height icon-padding icon-size inner-padding line-height mode text-decoration text-padding",
        "mj-social-element": f"{_COMMON} {_PADDING} align alt background-color border-radius color font-family font-size font-style font-weight href icon-height icon-padding icon-size line-height name rel src target text-decoration text-padding title vertical-align",
        "mj-navbar": f"{_COMMON} align base-url hamburger",
        "mj-navbar-link": f"{_COMMON} {_FONT} {_PADDING} href name rel target",
    }.items()
}

PARENTS: dict[str, frozenset[str]] = {
    tag: frozenset(words.split())
    for tag, words in {
        "mj-head": "mjml", "mj-body": "mjml",
        "mj-attributes": "mj-head", "mj-breakpoint": "mj-head", "mj-font": "mj-head", "mj-preview": "mj-head",
        "mj-title": "mj-head", "mj-style": "mj-head", "mj-all": "mj-attributes", "mj-class": "mj-attributes",
        "mj-section": "mj-body mj-wrapper mj-attributes", "mj-wrapper": "mj-body", "mj-hero": "mj-body mj-wrapper",
        "mj-column": "mj-section mj-group mj-attributes", "mj-group": "mj-section",
        "mj-text": "mj-column mj-hero mj-attributes", "mj-button": "mj-column mj-hero mj-attributes",
        "mj-image": "mj-column mj-hero mj-attributes", "mj-divider": "mj-column mj-hero mj-attributes",
        "mj-spacer": "mj-column mj-hero mj-attributes", "mj-table": "mj-column mj-hero mj-attributes",
        "mj-social": "mj-column mj-hero mj-attributes", "mj-navbar": "mj-column mj-hero mj-attributes",
        "mj-social-element": "mj-social", "mj-navbar-link": "mj-navbar",
    }.items()
}  # fmt: skip

REFUSED_TAGS = {
    "mj-include": "use Jinja's include: mj-include fails when nested and hides its errors",
    "mj-html-attributes": "mjml-python refuses it",
    "mj-accordion": "most clients do not open it",
    "mj-carousel": "most clients do not turn it",
}
