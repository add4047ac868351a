"""SARIF logs within the limits of code scanning."""
