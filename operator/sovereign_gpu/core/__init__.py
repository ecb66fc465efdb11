"""The decisions, pure: no I/O, no clock, no randomness; data in, decisions with reasons out."""
