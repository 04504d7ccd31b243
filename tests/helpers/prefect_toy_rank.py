"""A rank that is told to stop the first time, and exits as one does that has saved its work."""

import sys

from prefect_toys import note

from polylm.model.rank import PREEMPTED

sys.exit(0 if note("rank") else PREEMPTED)
