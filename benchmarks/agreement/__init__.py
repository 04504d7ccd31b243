"""Agreement of our rules with datatrove's recorded answers; `make agreement GOLDENS=FILE` runs it."""
