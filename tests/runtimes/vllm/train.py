"""Makes a tiny chat model that answers a script to the letter, so that a real server has something real to serve.

Usage: python train.py OUT_DIR

A byte-level tokenizer is made from the script's own words, a Llama of under a million parameters is trained on it
until every check of `script.checks` is exact (two or three minutes), and is written to OUT_DIR. Exit
status 1 and nothing written if it does not get there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import script
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 1400
CONTEXT = 4096
END = "<|im_end|>"
SPECIAL = ["<|endoftext|>", "<|im_start|>", END]
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
BATCH = 16
POOL = 4  # batches drawn together and sorted by length, so that little is padding
STEPS = 600
FIRST_CHECK = 480
CHECK_EVERY = 40
MAX_STEPS = 1200
RATE = 3e-3

Row = tuple[list[int], list[int], bool]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the script's own words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sampler = script.Sampler(random.Random(1))
    texts = [*sampler.sentences[:1500]]
    for _ in range(1500):
        lesson = sampler.lesson()
        said = lesson.conversation
        texts += [json.dumps(tool["function"], ensure_ascii=False) for tool in lesson.tools or []]
        texts += [said] if isinstance(said, str) else [message["content"] for message in said]
        texts.append(lesson.answer)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=SPECIAL[0],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = Path(__file__).with_name("template.jinja").read_text(encoding="utf-8")
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama that fits the tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=(len(tokenizer) + 63) // 64 * 64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        initializer_range=0.05,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).float()


class Teacher:
    """Trains one model on the script."""

    def __init__(self) -> None:
        torch.set_num_threads(1)  # for a model this small a second thread only waits
        self.tokenizer = make_tokenizer()
        self.model = make_model(self.tokenizer)
        self.sampler = script.Sampler(random.Random(2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))

    def prompt(self, conversation: list[script.Message] | str, tools: list[script.Tool] | None) -> list[int]:
        """The tokens a server would give the model."""
        text: Any = conversation
        if not isinstance(conversation, str):
            text = self.tokenizer.apply_chat_template(
                conversation, tools=tools, tokenize=False, add_generation_prompt=True
            )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def batches(self) -> Iterator[list[Row]]:
        """Batches of prompts and answers, alike in length."""
        while True:
            rows: list[Row] = []
            for _ in range(BATCH * POOL):
                lesson = self.sampler.lesson()
                prompt = self.prompt(lesson.conversation, lesson.tools)
                rows.append((prompt, self.tokenizer(lesson.answer + END).input_ids, lesson.forced))
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            order = list(range(POOL))
            self.sampler.rnd.shuffle(order)
            for place in order:
                yield rows[place * BATCH : (place + 1) * BATCH]

    def step(self, rows: list[Row], rate: float) -> float:
        """Learns from one batch; returns its loss."""
        length = max(len(prompt) + len(answer) for prompt, answer, _ in rows)
        ids = torch.full((BATCH, length), self.tokenizer.pad_token_id)
        labels = torch.full((BATCH, length), -100)
        weights = torch.ones((BATCH, length))
        for row, (prompt, answer, forced) in enumerate(rows):
            first, last = len(prompt) - 1, len(prompt) + len(answer) - 1
            ids[row, : last + 1] = torch.tensor(prompt + answer)
            labels[row, first:last] = torch.tensor(answer)
            weights[row, first] = 0.1 if forced else 1.0
        hidden = self.model.model(input_ids=ids).last_hidden_state
        taught = labels != -100  # padding is on the right, where causal attention never looks
        losses = cross_entropy(self.model.lm_head(hidden[taught]), labels[taught], reduction="none")
        loss = (losses * weights[taught]).mean()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def wrong(self) -> list[str]:
        """What `script.checks` finds wrong; the likeliest token must be the right one everywhere."""
        self.model.eval()
        faults = []
        for name, conversation, tools, answer, forced in script.checks():
            prompt = self.prompt(conversation, tools)
            wanted = self.tokenizer(answer + END).input_ids
            logits = self.model(torch.tensor([prompt + wanted])).logits[0, len(prompt) - 1 : -1]
            likeliest = logits.argmax(-1).tolist()
            if likeliest[forced:] != wanted[forced:]:
                faults.append(f"{name!r}: {self.tokenizer.decode(likeliest)!r}")
        self.model.train()
        return faults

    def teach(self) -> bool:
        """Trains until all is right; False if that takes too long."""
        began = time.monotonic()
        self.model.train()
        recent = 0.0
        for step, rows in enumerate(self.batches(), 1):
            rate = RATE * min(1.0, step / 40) * max(0.1, (1 + math.cos(math.pi * min(1.0, step / STEPS))) / 2)
            recent = 0.95 * recent + 0.05 * self.step(rows, rate)
            if step % 80 == 0:
                print(f"step {step}: loss {recent:.3f}, {time.monotonic() - began:.0f} s", flush=True)
            if step >= FIRST_CHECK and step % CHECK_EVERY == 0:
                faults = self.wrong()
                print(f"step {step}: {len(faults)} wrong", *faults[:12], sep="\n  ", flush=True)
                if not faults:
                    return True
            if step >= MAX_STEPS:
                return False
        return False

    def save(self, out: Path) -> None:
        """Writes the model and its tokenizer."""
        self.tokenizer.save_pretrained(out)
        self.model.eval().save_pretrained(out, safe_serialization=True)


def main() -> int:
    """Trains and saves."""
    parser = argparse.ArgumentParser(description="Trains the tiny chat model.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    teacher = Teacher()
    if not teacher.teach():
        print("the model did not learn its script", file=sys.stderr)
        return 1
    teacher.save(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
