"""Certificates of `holds`: the format, its writer, and a checker that shares no bounds.

The checker is `checker`, `records`, `statement` and `forms`; nothing else of the
verifier is loaded for checking except the readers of files.
"""
