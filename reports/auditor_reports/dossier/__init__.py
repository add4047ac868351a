"""Dossiers: a run's evidence in the slots of a framework."""
