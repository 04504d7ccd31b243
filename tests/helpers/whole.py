"""The whole flow on a third of the sample's documents, small enough for tests; a scripted server writes the instructions."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from samples import HELPERS, call, command, third_options, wait_until

from polylm.tasks.store import Store

CONTEXT, BATCH, FINETUNE_STEPS = 128, 8, 6
STEPS = {"stage1": 20, "stage2": 10}
NON_ENGLISH = {"stage1": 0.30, "stage2": 0.60}
PAIRS = {"stage1": 0.05, "stage2": 0.10}
GENERATED_IN = ("de", "en")
REQUESTS = 2  # a language
LASTING = ("parts", "folders", "artifacts", "runs", "checked", "seen")


def load_scripted():
    """The module of the stand-in server, which lies beside the tests and in no package."""
    if "scripted_server" not in sys.modules:
        spec = importlib.util.spec_from_file_location("scripted_server", HELPERS.parent / "scripted_server.py")
        sys.modules["scripted_server"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["scripted_server"])
    return sys.modules["scripted_server"]


def whole_options(file, server):
    """Options that run the recipe `sample` to its end on `file`, small, with the instructions of the server at this URL."""
    segments = [
        {"name": name, "steps": steps, "non_english": NON_ENGLISH[name], "pairs": PAIRS[name]}
        for name, steps in STEPS.items()
    ]
    changes = {
        "flow": "everything",
        "tokenizer.vocabulary": 2_048,
        **{f"{stage}.context": CONTEXT for stage in ("pack", "pack_pairs", "pack_instructions", "model")},
        "model.layers": 2,
        "model.width": 64,
        "model.heads": 2,
        "model.feed_forward": 128,
        "curriculum.segments": segments,
        "curriculum.batch": BATCH,
        **{f"{name}.steps": steps for name, steps in STEPS.items()},
        "finetune.steps": FINETUNE_STEPS,
        **{f"{stage}.batch": BATCH for stage in (*STEPS, "finetune")},
        **{f"{stage}.checkpoint_every": 4 for stage in (*STEPS, "finetune")},
        "instructions.server": server,
        "instructions.model": "scripted",
        "instructions.languages": GENERATED_IN,
        "instructions.max_requests": REQUESTS,
        "evaluate.items": 2,
        "evaluate.paragraphs": 4,
        "evaluate_untrained.paragraphs": 4,
        "evaluate.continuations": 2,
        "evaluate.translations": 2,
        "evaluate.max_new_tokens": 4,
        "evaluate.resamples": 10,
        "evaluate.directions": ["en-de"],
        "samples.prompts": {"en": "The city is", "de": "Die Stadt ist"},
        "samples.max_new_tokens": 8,
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in changes.items()}
    return [*third_options(file), *(word for name, value in texts.items() for word in ("--set", f"{name}={value}"))]
