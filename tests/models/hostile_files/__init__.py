"""Tiny hostile files and folders, each built from bytes, with the answer a scan has to give."""
