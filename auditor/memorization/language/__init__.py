"""Memorised text of language models: extracted, located, attacked."""
