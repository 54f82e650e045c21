"""The desk: the day, in plain order. Each file is one part of it; ``day.py`` reads like the line."""

from newsletter.desk.day import Desk
from newsletter.desk.installation import Tell
from newsletter.desk.looking import Account, Made

__all__ = ["Account", "Desk", "Made", "Tell"]
