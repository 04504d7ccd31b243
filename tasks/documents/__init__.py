"""From files to clean documents."""
