"""The command line: one verb a file. The composition root, so the only package that may import all others."""
