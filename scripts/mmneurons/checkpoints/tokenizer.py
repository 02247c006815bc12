"""Llama's tokenizer of a sentencepiece model, written so that reading it needs no sentencepiece.

The released code of these models splits a prompt at the picture and hands each part to
sentencepiece, which puts a space before it. transformers 5 would do so at the beginning of a prompt
alone, or not at all, depending on a flag that it forgets when it writes a tokenizer. So the file
`tokenizer.json` says it, and `tokenizer_config.json` names a class that takes the file as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

SPACE = "▁"


def llama_tokenizer(original: Path, added: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer of `tokenizer.model`, with special tokens as published and some added.

    Ids of every text are those of sentencepiece; added tokens get the ids behind its vocabulary.
    """
    published = AutoTokenizer.from_pretrained(original)
    with TemporaryDirectory() as folder:
        shutil.copyfile(original / "tokenizer.model", Path(folder) / "tokenizer.model")
        backend = LlamaTokenizer.from_pretrained(folder).backend_tokenizer
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    backend.pre_tokenizer = None
    # What the published class would put before and after a text the adapters do themselves.
    backend.post_processor = None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=published.bos_token,
        eos_token=published.eos_token,
        unk_token=published.unk_token,
        pad_token=published.pad_token or published.unk_token,
        model_max_length=published.model_max_length,
        clean_up_tokenization_spaces=False,
    )
    places = [AddedToken(token, special=True, normalized=False) for token in added]
    tokenizer.add_tokens(places, special_tokens=True)
    return tokenizer
