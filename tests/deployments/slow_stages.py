"""A stage whose jobs take a while and say where they are done, in a module that workers can import."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from polylm.tasks.stage import Field, Params, measure


class NapParams(Params):
    seconds: float = Field(0.3, ge=0, description="How long a job takes.")
    marks: str = Field("", description="The folder where jobs say that they begin, by process and its parent.")


@measure(reads=["text"], writes={"well": pa.bool_()})
def nap(rows, params: NapParams):
    """Sleep for a while."""
    for text in rows["text"].to_pylist():
        with (Path(params.marks) / text).open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")
    time.sleep(params.seconds)
    return {"well": np.ones(len(rows["text"]), np.bool_)}
