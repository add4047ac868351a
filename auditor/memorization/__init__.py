"""Memorisation: detect, locate, prune, attack."""
