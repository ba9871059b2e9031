"""What a process without this package makes of a model repository; run by a clean environment.

Reads a job from standard input and writes what it found to standard output, both as JSON.
"""

import contextlib
import importlib.util
import io
import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed


def look(repo, revision, texts, chats):
    """The ids and logits that a repository or folder gives."""
    kwargs = {"revision": revision} if revision else {}
    tokenizer = AutoTokenizer.from_pretrained(repo, **kwargs)
    model = AutoModelForCausalLM.from_pretrained(repo, **kwargs)
    said = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for chat in chats
    ]
    with torch.inference_mode():
        logits = [model(torch.tensor([ids])).logits[0, -1].tolist() for ids in said]
    return {
        "classes": [type(tokenizer).__name__, type(model).__name__],
        "texts": tokenizer(texts)["input_ids"],
        "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in said],
        "chats": said,
        "logits": logits,
    }


def main():
    job = json.load(sys.stdin)
    found = {
        "transformers": transformers.__version__,
        "has the package": importlib.util.find_spec("talkplay_hf") is not None,
        "looks": [look(*where, job["texts"], job["chats"]) for where in job["places"]],
    }
    if job.get("code"):
        set_seed(0)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(job["code"], {})
        found["printed"] = printed.getvalue()
    found["modules of a repository"] = [
        name for name in sys.modules if name.startswith("transformers_modules.")
    ]
    print(json.dumps(found))


main()
