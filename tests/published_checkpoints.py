"""Checkpoints in their published layouts: of full size without content, and tiny ones with.

tests/layouts/ has the names, types and shapes, `{0..31}` standing for every number and `{q|k}` for
every word. Full size costs nothing: a tensor is one number, repeated by its strides.
"""

import itertools
import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

LAYOUTS = Path(__file__).parent / "layouts"


def layout(name, sizes=None, layers=None):
    """{name: (dtype, shape)}; sizes: {full: tiny} dimensions, layers: {full: tiny} numbers."""
    sizes, layers, found = sizes or {}, layers or {}, {}
    for line in (LAYOUTS / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        dtype, pattern, *shape = line.split()
        shape = tuple(sizes.get(int(size), int(size)) for size in shape)
        places = re.findall(r"\{([^}]*)\}", pattern)
        fixed = re.sub(r"\{[^}]*\}", "{}", pattern)
        for words in itertools.product(*(_words(place, layers) for place in places)):
            found[fixed.format(*words)] = (getattr(torch, dtype), shape)
    return found


def _words(place, layers):
    if ".." in place:
        n = int(place.partition("..")[2]) + 1
        return [str(i) for i in range(layers.get(n, n))]
    return place.split("|")


def n_bytes(named):
    return sum(
        torch.empty((), dtype=dtype).itemsize * torch.Size(shape).numel()
        for dtype, shape in named.values()
    )


def without_content(named):
    """Tensors of the shapes, each of one number."""
    return {name: torch.zeros((), dtype=t).expand(shape) for name, (t, shape) in named.items()}


def drawn(named, seed):
    """Tensors at a scale at which every part shows; norms near one, positions as they count."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (dtype, shape) in sorted(named.items()):
        if dtype == torch.int64:
            tensors[name] = torch.arange(shape[-1])[None]
            continue
        values = torch.randn(shape, generator=generator)
        if re.search(r"norm|ffn_ln|\.ln_", name) and len(shape) == 1:
            values = name.endswith("weight") + 0.3 * values
        elif len(shape) == 2 and "embed" not in name:
            values = 1.2 * values / shape[1] ** 0.5
        elif "patch" in name:
            values = 0.2 * values
        elif len(shape) == 1:
            values = 0.3 * values
        tensors[name] = values.to(dtype)
    return tensors


def write_pickles(tensors, folder, n):
    """As save_pretrained wrote them until 2023: n shards and their index."""
    names = list(tensors)
    weight_map = {}
    for i in range(n):
        own = names[i * len(names) // n : (i + 1) * len(names) // n]
        file = f"pytorch_model-{i + 1:05}-of-{n:05}.bin"
        torch.save({name: tensors[name] for name in own}, folder / file)
        weight_map |= dict.fromkeys(own, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_safetensors(tensors, folder, n):
    """As save_pretrained writes them: n shards and their index."""
    names = list(tensors)
    weight_map = {}
    for i in range(n):
        own = names[i * len(names) // n : (i + 1) * len(names) // n]
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        save_file({k: tensors[k] for k in own}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


LLAMA_TOKENIZER = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "legacy": True,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 2048,
}
VOCABULARY = 400


def write_tokenizer(folder, pad_token="<unk>"):
    """A tokenizer of Llama's kind as a sentencepiece model: BPE with bytes to fall back to."""
    import sentencepiece

    words = (
        "a red car bear on the beach and with an old clock grass teddy banana fire hydrant "
        "image of Describe this in few words detail USER ASSISTANT INST Img SYS "
        "following picture night sky"
    ).split()
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(words), (2000, 9), generator=generator).tolist()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[i] for i in row) + ".:" for row in picks]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    special = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": pad_token,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps(LLAMA_TOKENIZER))
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
