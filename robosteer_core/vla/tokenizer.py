"""Words to ids: the tokenizers that checkpoints bring, and a small one of our own for policies trained from scratch.

In the small one, words that robot instructions commonly hold are one token each; any other text falls back to pieces and
bytes, so that no instruction is ever unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from robosteer_core.errors import UserError
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.sentencepiece import read_sentencepiece

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model")

_WORDS = """
touch press push pick up place put move take open close stack lift turn pull slide insert remove grasp release
reach tap go point shove grab raise drop
the a an it in on into onto to from of and over under at by near left right front back top bottom middle side
red green blue yellow orange purple pink black white grey brown silver
cube button bowl cup mug marker can drawer block plate box lid bottle spoon fork knife towel cloth pot pan table
gripper hand arm robot object hard firmly gently slowly down away next one
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


class PromptTokenizer:
    """Turns texts into ids of fixed length as a published family does: `before`, the text, `after`, padded on the right.

    What is too long loses its end, `after` included, as in openpi and lerobot.
    """

    def __init__(
        self, tokenizer: Tokenizer, length: int, text: Callable[[str], str], before: tuple[int, ...], after: tuple[int, ...], pad: int
    ) -> None:
        self._tokenizer, self.length, self._text = tokenizer, length, text
        self._before, self._after, self._pad = before, after, pad

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    @property
    def vocabulary_size(self) -> int:
        # PaliGemma's file adds a word for images that openpi's and lerobot's models have no embedding of.
        return self._tokenizer.get_vocab_size(with_added_tokens=False)

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask, each (batch, length) int64."""
        ids = np.full((len(texts), self.length), self._pad, np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            words = self._tokenizer.encode(self._text(text), add_special_tokens=False).ids
            tokens = [*self._before, *words, *self._after][: self.length]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return ids, mask


def cleaned(instruction: str) -> str:
    """Without the signs that openpi takes out of instructions."""
    return instruction.strip().replace("_", " ").replace("\n", " ")


def _with_newline(instruction: str) -> str:
    return instruction if instruction.endswith("\n") else instruction + "\n"


def load_tokenizer(folder: Path, config: PolicyConfig) -> InstructionTokenizer | PromptTokenizer:
    """The tokenizer in a checkpoint folder, used as its family uses it. Raises UserError where there is none or it misfits."""
    path = next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"the policy in {folder} lacks {TOKENIZER_FILES[0]}; {_SOURCE_OF_TOKENIZER[config.family]}")
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else read_sentencepiece(path)
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(f"{path} is no tokenizer ({error}); copy it again") from error

    def token(word: str) -> int:
        found = tokenizer.token_to_id(word)
        if found is None:
            raise UserError(f"{path} is not the tokenizer of a {config.family}: it has no token {word!r}; {_SOURCE_OF_TOKENIZER[config.family]}")
        return found

    length = config.instruction_tokens
    if config.preprocessing == "robosteer":
        token(BOS), token(PAD)
        return InstructionTokenizer(tokenizer, length)
    if config.family == "pi0":
        end = tuple(tokenizer.encode("\n", add_special_tokens=False).ids)
        if config.preprocessing == "lerobot":
            return PromptTokenizer(tokenizer, length, _with_newline, (token(BOS),), (), token(PAD))
        return PromptTokenizer(tokenizer, length, cleaned, (token(BOS),), end, token(PAD))
    if config.family == "pi05":
        return PromptTokenizer(tokenizer, length, str, (token(BOS),), (), token(PAD))
    if config.family == "smolvla":
        return PromptTokenizer(tokenizer, length, _with_newline, (), (), tokenizer.token_to_id("<|im_end|>") or 0)
    # OpenVLA's training saw an empty token between the colon and the actions.
    return PromptTokenizer(tokenizer, length, openvla_prompt, (token("<s>"),), (token("\u2581"),), 0)


def openvla_prompt(instruction: str) -> str:
    return f"In: What action should the robot take to {instruction.lower()}?\nOut:"


_PALIGEMMA = "copy tokenizer.json or tokenizer.model of google/paligemma-3b-pt-224 into the folder"
_SOURCE_OF_TOKENIZER = {
    "pi0": _PALIGEMMA,
    "pi05": _PALIGEMMA,
    "smolvla": "copy tokenizer.json of HuggingFaceTB/SmolVLM2-500M-Video-Instruct into the folder",
    "openvla": "copy it from openvla/openvla-7b",
    "openvla_oft": "copy it from openvla/openvla-7b",
}
