"""What the model writes, to read: one greedy continuation a language."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polylm.deployments.settings import Settings
from polylm.model.config import GenerateJob, write_job
from polylm.model.launch import run_module
from polylm.tasks.stage import Field, Params, Workspace, files
from polylm.tasks.tokens.tokenizer import encode_texts, load_tokenizer, separator_id

SAMPLE = {"language": pa.string(), "prompt": pa.string(), "text": pa.string()}


class SampleParams(Params):
    prompts: dict[str, str] = Field(
        {
            "en": "The president of the country said that",
            "zh": "我们今天要去",
            "es": "La ciudad es conocida por",
            "fr": "La ville est connue pour",
            "de": "Die Stadt ist bekannt für",
            "ru": "Город известен",
            "ar": "المدينة معروفة",
            "ja": "この町は",
            "th": "เมืองนี้",
            "tr": "Bu şehir",
        },
        description="Beginnings, by language.",
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest continuation.", unit="tokens")


@files(writes=SAMPLE, version=1, libraries=["torch"])
def write_samples(params: SampleParams, model: Path, tokenizer: Path, work: Workspace) -> pa.Table:
    """Continue a few beginnings, greedily, so that people see what the model writes."""
    vocabulary = load_tokenizer(tokenizer)
    end = separator_id(tokenizer)
    prompts, output = work.scratch / "prompts.parquet", work.scratch / "output.parquet"
    tokens = [[end, *ids] for ids in encode_texts(vocabulary, list(params.prompts.values()))]
    pq.write_table(pa.table({"tokens": pa.array(tokens, pa.list_(pa.int32()))}), prompts)
    job = GenerateJob(
        model=str(model), prompts=str(prompts), output=str(output), end=end, max_new=params.max_new_tokens
    )
    devices = min(1, Settings().placement.devices)
    run_module(
        "polylm.model.generate", write_job(job, work.scratch / "job.json"), logs=work.scratch / "logs", devices=devices
    )
    written = [vocabulary.decode(ids) for ids in pq.read_table(output)["tokens"].to_pylist()]
    return pa.table({"language": list(params.prompts), "prompt": list(params.prompts.values()), "text": written})
