"""Routing capture, refusal-expert ranking, steering."""
