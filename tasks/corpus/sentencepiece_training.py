"""Train one SentencePiece model: a program of its own, because what its training frees a process keeps (100 MB and more).

python sentencepiece_training.py TEXT MAX_BYTES OPTIONS > MODEL      # the first lines of TEXT, one at least; OPTIONS as JSON
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def main(text: str, max_bytes: str, options: str) -> None:
    import sentencepiece  # a start takes an eighth of a second

    trained = io.BytesIO()  # the trainer is given no path, because it would write it into the model
    lines = _lines(Path(text), int(max_bytes))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=trained, **json.loads(options))
    sys.stdout.buffer.write(trained.getvalue())


def _lines(text: Path, max_bytes: int) -> Iterator[str]:
    left = max_bytes
    with text.open("rb") as file:
        while left > 0 and (line := file.readline()):
            yield line.decode().removesuffix("\n")
            left -= len(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
