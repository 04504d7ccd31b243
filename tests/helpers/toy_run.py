"""The toy flow as a command: `python -m toy_run STORE WORKERS [--meet]`; prints what the store then holds."""

import json
import sys
from pathlib import Path

from samples import snapshot
from toy_stages import Pieces, ReadParams, meet, read, toy_flow, toy_pieces

from polylm.deployments.settings import Settings
from polylm.tasks.run import run
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams


def main():
    store, workers = Path(sys.argv[1]), int(sys.argv[2])
    with session(Settings(store=store, workers=workers)):
        if "--meet" in sys.argv:
            run(meet, NoParams(), run(read, ReadParams(), Pieces(*toy_pieces())))
        toy_flow(toy_pieces())
    print(json.dumps(snapshot(store)))  # noqa: T201


if __name__ == "__main__":
    main()
