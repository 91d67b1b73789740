"""How Winnow compares: other recommenders asked the same question about the same data on the same machine."""
