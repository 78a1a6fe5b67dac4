"""The word-level tokenizer of small policies, built from the texts of a dataset."""

from __future__ import annotations

from collections.abc import Iterable

from finevla_runtime.contracts.errors import SetupError

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1


def build_tokenizer(texts: Iterable[str]) -> str:
    """Return a ``tokenizer.json`` whose ids are the sorted lower-case words and punctuation marks of ``texts``.

    The same set of texts gives the same bytes, whatever its order.

    Raises:
        SetupError: FV-TRN-003 when there is no word at all.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    words: set[str] = set()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    if not words:
        raise SetupError("FV-TRN-003", "the dataset has no instruction text; record it again with texts.")
    vocabulary = {word: index for index, word in enumerate([PAD, UNKNOWN, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return str(tokenizer.to_str())


def vocabulary_size(tokenizer_json: str) -> int:
    """Return the number of ids of a ``tokenizer.json``."""
    from tokenizers import Tokenizer

    return int(Tokenizer.from_str(tokenizer_json).get_vocab_size())
