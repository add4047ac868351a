"""Records of repairs, as a page, Markdown or JSON."""
