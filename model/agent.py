"""What runs on each host of a training over several: `python -P -m polylm.model.agent host-N.json`.

It starts this host's ranks and exits as they do. A line on its standard input asks it to stop them; the end of its standard
input means that the launcher is gone. Standard library only.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from polylm.model.rank import PREEMPTED
from polylm.model.ranks import Machine, run_ranks
from polylm.model.watch import Preempted, RankError


def main() -> None:
    """Run the ranks that the order names; exit with 0, 75 (preempted), or 1 and a message."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_obey, name="lifeline", daemon=True).start()
    order = _read(Path(sys.argv[1]))
    os.environ.update(order["environment"])
    try:
        run_ranks(Machine(**order["machine"]))
    except Preempted:
        sys.exit(PREEMPTED)
    except (RankError, OSError) as error:
        sys.exit(str(error))


def _read(path: Path) -> dict[str, Any]:
    try:
        order = json.loads(path.read_text(encoding="utf-8"))
        os.chdir(order["folder"])
    except OSError as error:
        name = os.uname().nodename
        sys.exit(f"{name} does not see {error.filename}; all hosts need the store and this folder at the same paths")
    else:
        return dict(order)


def _obey() -> None:
    while os.read(0, 1024):
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)  # the ranks hold a pipe of this process, and die with it


def _stop(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
