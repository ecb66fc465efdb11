"""Measurements: one command per figure that README or docs quote."""
