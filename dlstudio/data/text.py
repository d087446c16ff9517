"""Words to token ids, with a vocabulary from the training texts only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["PADDING", "UNKNOWN", "encode_texts", "words_in"]

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def words_in(text: str) -> list[str]:
    """Return the words of a text as `encode_texts` sees them, in lower case.

    Example:
        >>> words_in("It's GOOD -- 2 sizes!")
        ["it's", 'good', '2', 'sizes']
    """
    return _WORD.findall(text.lower())


def encode_texts(
    texts: Sequence[str], train: np.ndarray, *, length: int = 96, max_words: int = 8000, min_count: int = 2
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Encode texts as lower-case words.

    Args:
        texts: n texts; one without any word becomes a single unknown token.
        train: row indices that the vocabulary is taken from.
        length: tokens per text; longer texts are cut at the end, shorter ones padded at the end.
        max_words: the most frequent training words to keep.
        min_count: a word that training texts hold less often is unknown.

    Returns:
        int64 (n, length) token ids, and the vocabulary: index to token, ``<padding>`` 0 and ``<unknown>`` 1.
    """
    words = [words_in(text) for text in texts]
    counts = Counter(word for row in train.tolist() for word in words[row])
    kept = (word for word, count in counts.items() if count >= min_count)
    frequent = sorted(kept, key=lambda word: (-counts[word], word))
    vocabulary = ("<padding>", "<unknown>", *frequent[:max_words])
    index = {word: position for position, word in enumerate(vocabulary)}
    tokens = np.zeros((len(words), length), dtype=np.int64)
    for row, found in enumerate(words):
        ids = [index.get(word, UNKNOWN) for word in found[:length]] or [UNKNOWN]
        tokens[row, : len(ids)] = ids
    return torch.from_numpy(tokens), vocabulary
