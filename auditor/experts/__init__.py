"""Experts of mixture-of-experts models: routing maps, ranking, steering, and repair."""
