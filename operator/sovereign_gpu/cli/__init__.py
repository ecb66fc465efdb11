"""`sovereign-gpu why`, `queue`, `top`, `nodes`: what people see at a terminal.

The operator's read API is asked first; without it the cluster is read with the user's own rights.
Only the standard library and a YAML parser are loaded for the first way, so that a command answers
at once.
"""
