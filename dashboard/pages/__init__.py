"""The pages, one file each: every module here with a `router` is found by looking."""
