"""
How a newsletter looks, as data: colours for light and dark, faces, and the few sizes that give it its rhythm.

The family's stand in ``templates/_shared/theme.toml``; a newsletter's ``[theme]`` says only what it has otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from newsletter.faults import like

Colour = Annotated[str, like(r"#[0-9a-fA-F]{6}", "#14507a")]
Face = Literal["serif", "sans"]


class Theme(BaseModel):
    """
    The look of one newsletter; the dark colours count where the mail program allows.

    What is given here is the plain look of a publication without a ``theme.toml``.

    *paper* is the ground of text, *tint* that of what stands apart, *ground* what lies around the mail; *ink* is
    text, *soft* what is said beside it, *line* a rule; *on_accent* is text on the accent. *lead_size* is in px.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accent: Colour = "#0b5d57"
    accent_dark: Colour = "#6cc7bd"
    on_accent: Colour = "#ffffff"
    tint: Colour = "#eef5f3"
    tint_dark: Colour = "#16211f"
    ground: Colour = "#f1efe8"
    ground_dark: Colour = "#111110"
    paper: Colour = "#ffffff"
    paper_dark: Colour = "#1b1a18"
    ink: Colour = "#1d1c1a"
    ink_dark: Colour = "#eeebe3"
    soft: Colour = "#605c53"
    soft_dark: Colour = "#b1ac9f"
    line: Colour = "#dcd8ce"
    line_dark: Colour = "#3b3933"
    display: Face = "serif"
    text: Face = "serif"
    headline_weight: Literal[300, 400, 500, 600, 700, 800] = 600
    headline_spacing: Annotated[str, like(r"-?\d(\.\d)?px", "-0.2px")] = "-0.2px"
    lead_size: Annotated[int, Field(ge=24, le=48)] = 34
    radius: Annotated[str, like(r"\d{1,2}px", "4px")] = "0px"

    @property
    def pairs(self) -> tuple[tuple[str, str, str], ...]:
        """(which, text, its ground) of everything that is read, in light and in dark."""
        told = [("on_accent on accent", self.on_accent, self.accent)]
        for dark in ("", "_dark"):
            for ground in ("paper", "tint"):
                for text in ("ink", "soft", "accent"):
                    which = f"{text}{dark} on {ground}{dark}"
                    told.append((which, getattr(self, text + dark), getattr(self, ground + dark)))
            told.append(
                (f"soft{dark} on ground{dark}", getattr(self, f"soft{dark}"), getattr(self, f"ground{dark}"))
            )
        return tuple(told)
