"""A small byte-pair tokenizer for policies that are trained from scratch.

Words that robot instructions commonly hold are one token each; any other text falls back to pieces and bytes, so that
no instruction is ever unknown. Real checkpoints bring their own tokenizer file, read by the same class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_WORDS = """
touch press push pick up place put move take open close stack lift turn pull slide insert remove grasp release
the a an it in on into onto to from of and over under at by near left right front back top bottom middle side
red green blue yellow orange purple pink black white grey brown silver
cube button bowl cup mug marker drawer block plate box lid bottle can spoon fork knife towel cloth pot pan table
gripper hand arm robot object hard gently slowly down away
""".split()

BOS, PAD = "<bos>", "<pad>"
_END_OF_PROMPT = "\n"


def train() -> Tokenizer:
    """Make the tokenizer; the result is always the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[PAD, BOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_WORDS, trainer)
    return tokenizer


class InstructionTokenizer:
    """Turns instructions into ids of fixed length, padded on the right, as pi0 expects: `<bos>words\\n`."""

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer, self.length = tokenizer, length
        self._bos, self._pad = tokenizer.token_to_id(BOS), tokenizer.token_to_id(PAD)

    @staticmethod
    def load(path: Path, length: int) -> InstructionTokenizer:
        return InstructionTokenizer(Tokenizer.from_file(str(path)), length)

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def __call__(self, instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask, each (batch, length) int64; instructions that are too long lose their end."""
        ids = np.full((len(instructions), self.length), self._pad, np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(instructions):
            tokens = self._tokenizer.encode(text.strip().lower()).ids[: self.length - 2]
            tokens = [self._bos, *tokens, *self._tokenizer.encode(_END_OF_PROMPT).ids[-1:]]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return ids, mask
