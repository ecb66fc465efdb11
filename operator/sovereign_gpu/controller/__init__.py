"""From what changed to what is written: the loop around the engine and what it sends."""
