"""Zip, tar and compressed streams, looked into without unpacking them to disk."""
