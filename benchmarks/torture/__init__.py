"""Treat a store badly in every way that happens, and see that nothing is lost: `make torture`.

One file a kind of ill-treatment; each gives lines of one table. See `__main__` for what can be asked.
"""
