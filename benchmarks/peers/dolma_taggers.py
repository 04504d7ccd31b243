"""dolma's Gopher and C4 taggers over one English file, in its own environment: prints the CPU seconds that they took.

    python dolma_taggers.py FILE LIMIT

FILE is JSON lines (.gz), LIMIT its first documents (0: all). From text to attributes: dolma decides in its mixer, later.
"""

import gzip
import json
import sys
import time

from dolma.core.data_types import Document
from dolma.core.registry import TaggerRegistry

TAGGERS = ("gopher_v2", "c4_v2")
WARM = 50  # documents


def main() -> None:
    path, limit = sys.argv[1], int(sys.argv[2])
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for number, line in enumerate(lines) if not limit or number < limit]
    taggers = [TaggerRegistry.get(name)() for name in TAGGERS]
    documents = [Document(source="", id=str(number), text=text) for number, text in enumerate(texts)]
    spans = [tagger.predict(document) for document in documents[:WARM] for tagger in taggers]
    begun = time.process_time()
    spans = [tagger.predict(document) for document in documents for tagger in taggers]
    seconds = time.process_time() - begun
    print(json.dumps({"seconds": seconds, "documents": len(texts), "attributes": sum(len(one.spans) for one in spans)}))


if __name__ == "__main__":
    main()
