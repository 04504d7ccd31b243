"""Draw the weights of a network: `python -P -m polylm.model.initialize job.json`."""

import sys
from pathlib import Path

from polylm.model import checkpoint
from polylm.model.config import InitializeJob
from polylm.model.network import Network, initialize


def main(path: Path) -> None:
    job = InitializeJob.model_validate_json(path.read_text(encoding="utf-8"))
    network = Network(job.model, languages=1)
    initialize(network, kind=job.init, std=job.init_std, seed=job.seed)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    checkpoint.save_weights(Path(job.output), weights, job.model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
