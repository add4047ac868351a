"""Repairs: propose, apply, evaluate, accept or reject."""
