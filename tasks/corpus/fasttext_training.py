"""Train one fastText classifier: a program of its own, because a second training in a process differs from its first.

python fasttext_training.py EXAMPLES MODEL OPTIONS      # OPTIONS: the arguments of train_supervised, as JSON
"""

import json
import sys


def main(text: str, model: str, options: str) -> None:
    import fasttext  # the only import that costs; a start takes a quarter of a second

    fasttext.train_supervised(text, **json.loads(options)).save_model(model)


if __name__ == "__main__":
    main(*sys.argv[1:])
