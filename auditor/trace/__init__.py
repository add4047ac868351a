"""Corpus index, matching, belief conflict."""
