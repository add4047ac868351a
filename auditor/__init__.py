"""auditor: gathers evidence about a model, repairs it, and says whether it may be released."""
