"""The peer of masked-LM training: `Trainer` with `DataCollatorForLanguageModeling` of Transformers on PyTorch.

Its last line is a JSON object: blocks a second once training is under way.
"""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", USE_TF="0")

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import torch
import transformers


class Blocks(torch.utils.data.Dataset):  # type: ignore[misc]
    """Full blocks of tokens, as the example script run_mlm.py packs them."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.blocks[index]}


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def packed(path: pathlib.Path, tokenizer: Any, length: int) -> list[list[int]]:
    """Blocks of the text, full ones only."""
    texts = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    tokens = [token for ids in tokenizer(texts, truncation=False)["input_ids"] for token in ids]
    return [tokens[at : at + length] for at in range(0, len(tokens) - length + 1, length)]


def main() -> None:
    """Trains for so many steps, and times those after the first few."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True, help="a document on each line")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.checkpoint)
    model = transformers.AutoModelForMaskedLM.from_pretrained(arguments.checkpoint)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        trainer = transformers.Trainer(
            model,
            transformers.TrainingArguments(
                folder,
                use_cpu=True,
                bf16=arguments.bf16,
                per_device_train_batch_size=arguments.batch_size,
                max_steps=arguments.warm_up + arguments.steps,
                learning_rate=1e-4,
                weight_decay=0.01,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Blocks(packed(arguments.text, tokenizer, arguments.length)),
            data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[clock],
        )
        trainer.train()
    seconds = clock.ends[-1] - clock.ends[arguments.warm_up - 1]
    print(json.dumps({"blocks_per_second": arguments.batch_size * arguments.steps / seconds}))


if __name__ == "__main__":
    main()
