"""Neural activation patterns: mine, describe, monitor."""
