"""Watching: what is told early, what is told when it goes wrong, and what is looked after on a schedule."""
