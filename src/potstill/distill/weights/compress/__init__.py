"""Smaller policies: fewer units, fewer weights, fewer bits, each step judged by the gate or undone."""
