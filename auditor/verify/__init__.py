"""Properties, bounds, search, Z3, witnesses."""
