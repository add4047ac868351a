"""A read-only look at run folders in a browser of this machine."""
