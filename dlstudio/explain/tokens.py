"""What token ids read as, and which pieces make one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

if TYPE_CHECKING:
    import torch

__all__ = ["read_tokens", "words_of"]


def read_tokens(ids: torch.Tensor, tokenizer: Any) -> npt.NDArray[np.str_] | None:
    """Return the text of every token id, (n, length); None without a tokenizer.

    Args:
        ids: int64 (n, length).
        tokenizer: an object with ``convert_ids_to_tokens``, a sequence of tokens by id, or a mapping from id to token.
    """
    if tokenizer is None:
        return None
    flat = ids.flatten().tolist()
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        found = tokenizer.convert_ids_to_tokens(flat)
    elif isinstance(tokenizer, (Sequence, Mapping)):
        found = [tokenizer[at] if _holds(tokenizer, at) else f"<{at}>" for at in flat]
    else:
        raise DLStudioError(
            "a tokenizer with convert_ids_to_tokens, a list of tokens or a mapping from id to token",
            type(tokenizer).__name__,
            "Pass the tokenizer that made the ids.",
        )
    return np.array([str(token) for token in found], dtype=np.str_).reshape(tuple(ids.shape))


def _holds(tokens: Sequence[str] | Mapping[int, str], at: int) -> bool:
    return at in tokens if isinstance(tokens, Mapping) else 0 <= at < len(tokens)


def words_of(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Merge sub-word pieces: return every word with the places of its pieces.

    Knows WordPiece (``##ing``), byte-level BPE (``Ġthe`` begins a word) and SentencePiece (``▁the``).

    Example:
        >>> words_of(["un", "##believ", "##able", "!"])
        [('unbelievable', [0, 1, 2]), ('!', [3])]
    """
    begins = any(token[:1] in ("Ġ", "▁") for token in tokens)
    words: list[tuple[str, list[int]]] = []
    for at, token in enumerate(tokens):
        special = token.startswith(("<", "[")) and token.endswith((">", "]"))
        if token.startswith("##") and words:
            piece, joins = token[2:], True
        elif begins:
            piece, joins = token.lstrip("Ġ▁"), token[:1] not in ("Ġ", "▁") and bool(words) and not special
        else:
            piece, joins = token, False
        if joins and not (words[-1][0].startswith(("<", "[")) and words[-1][0].endswith((">", "]"))):
            words[-1] = (words[-1][0] + piece, [*words[-1][1], at])
        else:
            words.append((piece, [at]))
    return words
