"""Weights that carry memorised items: where they may lie, how they are scored, masked and kept."""
