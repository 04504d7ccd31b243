"""What runs, in which order: one line a stage; recipes; the command line."""
