"""Picking: which stories an edition tells, where, and why. Pure: no clock, no store, no network."""
