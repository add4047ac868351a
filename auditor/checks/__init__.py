"""One module per check; each turns an engine's answer into an `Answer`."""
