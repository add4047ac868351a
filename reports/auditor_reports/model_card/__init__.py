"""Hugging Face model cards."""
