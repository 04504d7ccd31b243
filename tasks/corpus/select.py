"""The corpus as a view: which documents count, how much, and in which cell of the mixture."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.corpus.split import LABEL
from polylm.tasks.stage import NoParams, Rows, files


@files(reads=["language", "kind"], writes={"weight": pa.uint8(), "cell": LABEL}, each="part", aligned=True, version=2)
def select(rows: Rows, params: NoParams) -> pa.Table:
    """Select what no gate rejected: weight 1, cell `language/kind`. Text is not written again."""
    cells = pc.binary_join_element_wise(rows["language"].cast(pa.string()), rows["kind"].fill_null("text"), "/")
    weights = np.ones(len(cells), np.uint8)
    return pa.table({"weight": pa.array(weights), "cell": cells.dictionary_encode().cast(LABEL)})
