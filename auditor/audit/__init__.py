"""Plan, runner, ledger and gate: one audit from start to end."""
