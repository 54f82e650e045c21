"""
Every code a finding may have: how bad it is, what it means, how to mend it. Codes are never renamed.

``docs/proof.md`` is this table: ``python -m newsletter.rendering.codes > docs/proof.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from newsletter.rendering.findings import Finding, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True, slots=True)
class Code:
    """*severity* is what a finding of it has, unless a source's own oddity caused it: then at most a warning."""

    code: str
    severity: Severity
    meaning: str
    remedy: str


THEMES: dict[str, tuple[Code, ...]] = {
    "Subject, preheader and sender": (
        Code("subject-missing", _E, "There is no subject.", "Set subject in newsletter.toml, or give one: newsletter words SLUG subject=…"),
        Code("subject-long", _W, "The subject is longer than any inbox shows.", "Shorten it; a phone shows about 40 characters, a desktop about 70."),
        Code("subject-repeat", _W, "The subject is the last edition's.", "Give another: newsletter words SLUG subject=…"),
        Code("subjects-untried", _N, "Only the first subject goes out: where each reader gets it in their own morning, none can be tried on a sample.", "Give one subject, or deliver it at once."),
        Code("subject-shouts", _W, "The subject is written in capitals or ends in several marks; filters of junk mail count that.", "Write it as a sentence: newsletter words SLUG subject=…"),
        Code("preheader-missing", _E, "There is no preheader: inboxes show whatever the mail begins with.", "Set preheader in newsletter.toml, or give one: newsletter words SLUG preheader=…"),
        Code("preheader-long", _W, "The preheader is longer than any inbox shows.", "Shorten it; the first 90 characters count."),
        Code("preheader-repeat", _W, "The preheader says what the subject says: a line of the inbox is wasted.", "Say what else is in the edition: newsletter words SLUG preheader=…"),
        Code("preheader-old", _N, "The preheader is the last edition's.", "Give another: newsletter words SLUG preheader=…"),
        Code("header-control", _E, "A header holds a line break or another control character: what follows could become a header of its own.", "Take the character out of subject, preheader, sender or reply address."),
        Code("header-bidi", _E, "A header holds characters that turn the reading direction over: it can be made to read as something else.", "Take them out; U+200E and U+200F are enough to keep directions apart."),
        Code("sender-address", _E, "The sender or reply address is no address.", "Mend sender or reply_to in publication.toml or newsletter.toml."),
        Code("sender-name", _W, "The sender's name holds an address: mail programs warn of that as a forgery.", "Write a name without @ in publication.toml or newsletter.toml."),
    ),
    "The page": (
        Code("html-missing", _E, "There is no HTML part.", "Make body.mjml.j2 set something."),
        Code("text-missing", _E, "There is no text part.", "Make body.txt.j2 set something."),
        Code("clip", _E, "The HTML is larger than Gmail shows: it cuts the end off, the unsubscribe link with it.", "Take stories out, or lower full_text_bytes in newsletter.toml."),
        Code("gave-way", _N, "The mail would have been larger than four fifths of what Gmail shows, so something gave way.", "Nothing, or choose yourself: drop or pin stories, or change gives_way in newsletter.toml."),
        Code("clip-tracked", _W, "Once click tracking has lengthened the links, Gmail may cut the end off.", "Take a story out, or lower full_text_bytes in newsletter.toml."),
        Code("lang-missing", _E, "The page does not say its language: a screen reader guesses.", "Set lang on <mjml>."),
        Code("lang-wrong", _E, "The page says another language than the edition's: a screen reader mispronounces all of it.", "Set lang on <mjml> to the edition's language."),
        Code("dir-wrong", _E, "The page does not say the reading direction of the edition's language.", "Set dir on <mjml> to the edition's direction."),
        Code("story-lang", _W, "A story in another language is not marked as such: a screen reader mispronounces it.", "Set lang and dir on its headline, as the macro at(item) does."),
        Code("title-missing", _W, "The page has no title: view-online has no name in a browser.", "Set mj-title in head.mjml.j2."),
        Code("heading-first", _W, "The page has no first-level heading, or several: who listens looks for one.", "Set exactly one <h1>, the newsletter's name."),
        Code("heading-order", _W, "A heading skips a level: who goes from heading to heading gets lost.", "Use the next level: h2 for a section, h3 for its stories."),
        Code("heading-empty", _W, "A heading is empty.", "Give it words, or leave it out of the template."),
        Code("table-role", _W, "A table for layout is read out as a table.", 'Write <table role="presentation">.'),
        Code("contrast-light", _W, "Text is hard to read on its ground.", "Take a darker or lighter colour: 4.5 to 1, or 3 to 1 from 24 px (bold from 19 px)."),
        Code("contrast-dark", _W, "Text is hard to read on its ground in dark mode.", "Mend the colours under prefers-color-scheme: dark in head.mjml.j2, or the theme's dark ones."),
        Code("unreadable", _E, "Text has the colour of its ground: nobody can read it.", "Give the text or its ground another colour, for light and for dark."),
        Code("type-small", _W, "Text is smaller than 12 px.", "Make it at least 12 px, running text 16."),
    ),
    "Mail programs": (
        Code("mjml-leak", _E, "An MJML tag was not compiled and reaches the reader.", "Close what is open around it; mj-raw may not be left open over other tags."),
        Code("mso-balance", _E, "Outlook's conditions are not closed, or one stands within another: Outlook loses part of the mail.", "Give each <!--[if …]> its <![endif]--> before the next begins."),
        Code("remote-css", _E, "A style sheet is loaded from elsewhere: mail programs do not load it, and it tells who reads.", "Put the rules into mj-style."),
        Code("active-content", _E, "The page holds a script, a form, a frame or a video: mail programs refuse such mails.", "Link to a page that has it."),
        Code("style-long", _W, "A style block is longer than Gmail keeps: it drops all of it, dark mode and phone widths too.", "Keep every mj-style below 8,192 characters."),
        Code("layout-fragile", _W, "A style that Outlook or Gmail ignores holds the layout (position, flex, grid, float).", "Use columns and tables."),
        Code("too-wide", _W, "Something is wider than the mail: phones shrink the whole text.", "Keep widths at 640 px or below."),
    ),
    "Links": (
        Code("link-relative", _E, "A link is not a whole address: from a mail it leads nowhere.", "Write it with https:// and host, or edit the story."),
        Code("link-syntax", _E, "A link is no valid address.", "Mend it where it is written: newsletter.toml, publication.toml, words, or the story."),
        Code("link-scheme", _E, "A link is neither https, mailto nor tel; mail programs block it.", "Link to a page on https."),
        Code("link-credentials", _E, "A link holds a user name or password.", "Take what stands before the @ out."),
        Code("link-private", _E, "A link leads to a private or local machine: readers cannot reach it.", "Link to the public address."),
        Code("link-insecure", _N, "A link is http, not https.", "Write https where the site has it."),
        Code("link-long", _W, "A link is longer than some mail programs follow.", "Shorten it, or take its tracking parameters out."),
        Code("link-empty", _W, "A link has neither words nor a described picture: who listens hears only its address.", "Give it words, or its picture an alt."),
        Code("link-vague", _N, "A link says only “here” or the like: out of its place it means nothing.", "Let it say where it leads."),
        Code("link-tracked-twice", _W, "A link has the same tracking parameter twice, or two question marks: counts go wrong, some sites refuse it.", "Keep one of them, where the link is written."),
        Code("tracked-unsubscribe", _E, "A personal link may be tracked: leaving must not depend on it.", 'Write <a clicktracking="off" href=…>.'),
        Code("link-dead", _W, "A link leads to nothing (only looked at with --online).", "Mend or drop it; a source may have taken the story back."),
        Code("link-unsure", _N, "A link could not be looked at: its site refuses programs or did not answer (only with --online).", "Open it yourself."),
    ),
    "Words": (
        Code("leftover-token", _E, "A template token is left over: the reader would see it.", "Fill it or take it out of the template or words."),
        Code("unfilled-tag", _E, "A personal tag that nobody fills.", "Use unsubscribe_url, preferences_url or view_url; there are no others."),
        Code("tag-misplaced", _E, "A personal link stands where it is no link: its token would be shown, or handed to another site.", "Use it only as the whole address of a link, or on a line of the text part."),
        Code("placeholder", _E, "A mark for what is still to come was left in: TK, lorem ipsum, XXX or the like.", "Write what belongs there, or edit the story."),
        Code("text-markup", _E, "There is markup in the text part.", "Use the filter plain in the text template."),
        Code("double-escape", _W, "Something was escaped twice: &amp;amp; for an ampersand.", "Edit the story's words, or take a doubled escape out of the template."),
        Code("mojibake", _W, "Letters are broken: they were read in the wrong encoding.", "Edit the story's words."),
        Code("words-stray", _W, "A file in the words folder is no newsletter's: nobody reads it.", "Name it by the newsletter's slug: words/<date>/<slug>.md."),
        Code("name-spelling", _N, "A name is spelt in two ways; no program can say which is right.", "Look it up, then edit one of them."),
    ),
    "Pictures": (
        Code("image-src", _E, "A picture's address is not absolute https: mail programs do not load it.", "Give it an https address."),
        Code("image-alt", _E, "A picture has no alt: a screen reader reads its address out.", 'Write alt, empty (alt="") for a mere ornament.'),
        Code("image-alt-empty", _W, "A linked picture has an empty alt: who cannot see it cannot follow it.", "newsletter edit SLUG URL --alt …"),
        Code("image-alt-file", _W, "A picture's alt is the name of its file.", "Say what is to be seen: newsletter edit SLUG URL --alt …"),
        Code("image-undescribed", _N, "A story's picture has no description.", "Say what is to be seen: newsletter edit SLUG URL --alt …"),
        Code("image-width", _W, "A picture has no width: Outlook shows it at its own size.", "Set its width in px."),
        Code("image-type", _W, "A picture is of a kind that mail programs do not show.", "Use JPEG, PNG or GIF."),
        Code("image-small", _W, "A picture has fewer pixels than it is shown with: it looks blurred.", "Take a larger one: newsletter edit SLUG URL --picture …"),
        Code("image-large", _W, "A picture has far more pixels than a mail shows: phones load them all.", "Take a smaller one, at most 2,400 px wide."),
        Code("image-repeat", _W, "The same picture is shown twice.", "Take another for one of the stories: newsletter edit SLUG URL --picture …"),
        Code("image-pixel", _W, "A story's picture is a pixel that counts readers, not a picture.", "Take another: newsletter edit SLUG URL --picture …"),
        Code("image-heavy", _W, "A picture weighs more than 1 MB (only looked at with --online).", "Take a smaller one: newsletter edit SLUG URL --picture …"),
        Code("credit-missing", _W, "A picture has no credit.", "Name its maker: newsletter edit SLUG URL --credit …"),
        Code("credit-unprinted", _E, "A picture's credit is known but not printed.", "Let the block set item.image.credit."),
    ),
    "Stories": (
        Code("thin", _W, "There are fewer stories than the newsletter's minimum.", "Pin some, or lower min_stories in newsletter.toml."),
        Code("section-thin", _W, "A section has fewer stories than its minimum.", "Pin or move some into it, or lower its min in newsletter.toml."),
        Code("section-empty", _W, "A section has a heading and nothing below it.", "Fill it, or leave it out."),
        Code("headline-missing", _E, "A story has no headline.", "Edit or drop it."),
        Code("duplicate-story", _E, "The same story stands twice.", "Drop or move one."),
        Code("duplicate-headline", _W, "Two stories have nearly the same headline: it may be one story, told twice.", "Drop one, or edit its headline."),
        Code("story-old", _W, "A story is older than the newsletter looks back.", "Drop it, or say in its headline why it runs today."),
        Code("embargo", _E, "A story may not be told yet: its date lies in the future of the edition.", "Drop it, or send the edition after that moment."),
        Code("story-missing", _W, "A picked story is in neither part.", "Let its section's block set item.url."),
        Code("parts-differ", _W, "A story is in one of the two parts only.", "Let both block templates set its headline and address."),
        Code("translation-credit", _E, "A translated story does not say so, or not by whom and from which paper.", "Let the block say translated(item) and publisher(item), both in parts.mjml.j2 and parts.txt.j2."),
        Code("order-waits", _N, "An order is for a story that is not there: not collected yet, too old to be looked at, or mistyped.", "Collect its source, or take the order back: newsletter undo SLUG."),
        Code("section-full", _N, "More stories are pinned to a section than it is made for; all of them stand in it.", "Move or drop some, or raise max in newsletter.toml."),
        Code("source-changed", _N, "The source says something else since an editor changed it; the edit stands.", "Edit again, or undo the edit to take the source's."),
    ),
    "Promises: leaving, law, rights and what is paid for": (
        Code("unsubscribe-missing", _E, "The unsubscribe link is missing.", "Set unsubscribe_url in both footers; the law asks for it."),
        Code("preferences-missing", _E, "The link to the preferences is missing.", "Set preferences_url in both footers."),
        Code("view-missing", _E, "The view-online link is missing.", "Set view_url in both parts."),
        Code("address-missing", _E, "The postal address is missing.", "Set publication.postal_address in both footers; the law asks for it."),
        Code("reason-missing", _E, "The line saying why the reader gets this mail is missing.", "Write “You get this because …” with the newsletter's name in both footers."),
        Code("rights-body", _E, "The text of an excerpt source is printed.", "Drop the story, or declare the source's rights in publication.toml if you have them."),
        Code("rights-picture", _E, "A picture of an excerpt source is shown.", "Drop the story, or declare the source's rights in publication.toml if you have them."),
        Code("standfirst-long", _E, "An excerpt has more than 60 words.", "Shorten it: newsletter edit SLUG URL --standfirst …"),
        Code("gate-paid", _E, "Free readers would get text that members pay for.", "Take it out of the template or words; stories are gated by themselves."),
        Code("gate-advert", _E, "Paying readers would get an advert or offer.", "Take it out of the template or words; set edition.offer and edition.advert only."),
        Code("gate-section", _E, "A story stands in a mail to readers whose class its section is not for.", "Take it out of the template or words; the section's `for` says who gets it."),
        Code("gate-reminder", _E, "A reminder stands in a mail to readers it is not for.", "Set edition.reminder only."),
        Code("reminder-missing", _E, "A reminder is missing from its own variant.", "Set edition.reminder in both body templates."),
        Code("advert-unlabelled", _E, "An advert is not marked as one.", "Let the block set edition.advert.label; the law asks for it."),
        Code("base-url-loopback", _N, "Links lead to this machine only.", "Set NEWSLETTER_BASE_URL before real readers get this."),
    ),
    "Templates": (
        Code("render-failed", _E, "The edition cannot be rendered.", "Mend the file and line that it names."),
        Code("template-syntax", _E, "A template is no valid Jinja.", "Mend the line."),
        Code("block-missing", _E, "A section names a block that does not exist.", "Name one that does, or add its two templates."),
        Code("unknown-tag", _E, "A tag is no MJML that is compiled.", "Use a tag MJML knows, in small letters."),
        Code("unknown-attribute", _W, "An attribute is none that its MJML tag has: it is ignored.", "Correct its name, or take it out."),
        Code("refused-tag", _E, "A tag is MJML but does not work here.", "Use what the message names."),
        Code("misplaced", _E, "A tag cannot stand where it does: it is dropped.", "Put it where MJML wants it."),
        Code("tag-unclosed", _E, "A tag is not closed.", "Close it."),
        Code("tag-unopened", _E, "A tag is closed that was not opened.", "Take it out, or open it."),
        Code("attribute-twice", _W, "A tag has an attribute twice: the last counts.", "Take one out."),
        Code("quotes", _E, "Double quotes within single quotes break the page.", "Write double quotes around attributes."),
        Code("unitless-zero", _W, "A padding of 0 without a unit: widths come out wrong.", "Write 0px."),
        Code("image-percent", _W, "A picture's width in percent is ignored.", "Give it in px."),
        Code("social-src", _W, "A social icon would come from a stranger's server.", "Give it a src."),
        Code("style-inline", _W, "mj-style inline is not inlined.", "Write style attributes."),
        Code("hero-fluid", _W, "mj-hero fluid-height collapses.", "Give it a fixed height."),
        Code("class-name", _W, "An mj-class has more than one name.", "Give it one."),
        Code("clicktracking-order", _W, "clicktracking=off stands behind href and does not count.", "Write it before href."),
    ),
}  # fmt: skip

CODES: dict[str, Code] = {code.code: code for codes in THEMES.values() for code in codes}


def finding(
    code: str,
    newsletter: str,
    *,
    variant: str = "",
    part: str = "html",
    where: str = "",
    message: str = "",
    at_most: Severity = Severity.ERROR,
) -> Finding:
    """
    Return a finding of a registered code; *message* says more than its meaning, *where* narrows the place.

    *at_most* is a warning where a source's own oddity is the cause: that must not cost an edition.

    Raises:
        KeyError: the code is not registered.
    """
    known = CODES[code]
    severity = max(known.severity, at_most, key=list(Severity).index)
    return Finding(
        code=code, severity=severity, newsletter=newsletter, variant=variant, part=part, where=where,
        message=message or known.meaning, remedy=known.remedy,
    )  # fmt: skip


def as_markdown() -> str:
    """The whole registry, as ``docs/proof.md`` holds it."""
    lines = [
        "# What the proof finds",
        "",
        "An **error** keeps an edition from going out by any way; a **warning** goes out and is recorded; a **note** only tells.",
        "What a source's own oddity causes is never more than a warning.",
        "`newsletter proof SLUG` shows all findings, `--online` also follows every link, `--json` gives them to a program.",
        "",
        "This page is made from the code: `python -m newsletter.rendering.codes > docs/proof.md`.",
    ]
    for theme, codes in THEMES.items():
        lines += ["", f"## {theme}", "", "| code | | what it means | how to mend it |", "|---|---|---|---|"]
        lines += [
            f"| `{one.code}` | {one.severity} | {_cell(one.meaning)} | {_cell(one.remedy)} |" for one in codes
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


if __name__ == "__main__":
    print(as_markdown(), end="")
