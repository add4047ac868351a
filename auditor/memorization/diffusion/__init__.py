"""Memorised images of diffusion models: found, located, attacked, trained against the attack."""
