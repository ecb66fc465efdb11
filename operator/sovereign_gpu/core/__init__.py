"""The decisions, pure: no I/O, no clock, no randomness; frozen data in, decisions with reasons out."""
