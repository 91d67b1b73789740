"""The five services. None imports another; `all` and `__main__` put them together."""
