"""`python -m polylm.flows.cli`."""

from polylm.flows.cli import main

main()
