"""Data: built-in plans, properties, policies, schemas."""
