"""Opening and running causal language models, and judging what they say."""
