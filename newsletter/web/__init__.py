"""Readers' pages (leaving, preferences, view online) and the editors' local preview."""
