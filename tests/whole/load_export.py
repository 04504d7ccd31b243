"""Load an exported model as anyone would, with `transformers` alone: `python load_export.py FOLDER OUTPUT`."""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TALK = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Oder."}]

folder, output = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval()
ids = tokenizer("Straße 12, 東京 and มนุษย์", return_tensors="pt")["input_ids"]
with torch.no_grad():
    logits = model(ids).logits[0]
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
found = {
    "ids": ids[0].tolist(),
    "logits": logits.tolist(),
    "written": written[0].tolist(),
    "end": tokenizer.convert_tokens_to_ids("</s>"),
    "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, model.config.bos_token_id, model.config.eos_token_id],
    "talk": tokenizer.apply_chat_template(TALK, tokenize=False),
    "talk_ids": tokenizer.apply_chat_template(TALK, return_dict=True)["input_ids"],
    "ours": sorted(name for name in sys.modules if name.partition(".")[0] in ("polylm", "kernels")),
}
Path(output).write_text(json.dumps(found))
