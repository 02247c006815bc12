"""A small LiMBeR, and its forward pass once more in plain functions, in float64.

The tower is transformers' own BeitModel here too; GPT-J is written from its formula: attention and
FFN side by side on one norm's output, each pair of neighbouring components of a part of every head
turned by the position. One picture and one row at a time, without padding and without a cache.
"""

import math

import torch
from conftest import IDS, VOCABULARY
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BeitConfig, BeitImageProcessorPil, GPTJConfig, PreTrainedTokenizerFast

from mmneurons.models.limber import Limber
from mmneurons.models.limber_modeling import LimberConfig, LimberForConditionalGeneration

SHORT, LONG = "The image shows", "Describe this image in detail. The image shows a red"
HEADS, LAYERS, ROTARY = 4, 3, 4


def build_tokenizer():
    """GPT-J has no token that begins or pads a text; the one that ends it does all."""
    words = Tokenizer(models.WordLevel(IDS, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="</s>", eos_token="</s>", unk_token="</s>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_network(seed=0, **vision):
    """4 x 4 patches, two vision layers and three decoder layers; norms, biases and scales show."""
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 24}
    text = GPTJConfig(
        vocab_size=len(VOCABULARY), n_embd=32, n_inner=40, n_layer=LAYERS, n_head=HEADS,
        rotary_dim=ROTARY, n_positions=128, bos_token_id=IDS["</s>"], eos_token_id=IDS["</s>"],
        # As LiMBeR's dropout of image embeddings would be, were it not taken away.
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
    )  # fmt: skip
    of_beit = BeitConfig(
        **sizes | vision, use_shared_relative_position_bias=True, use_mask_token=True,
        layer_scale_init_value=1.0, hidden_dropout_prob=0.1,
    )  # fmt: skip
    network = LimberForConditionalGeneration(LimberConfig(vision_config=of_beit, text_config=text))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            if "norm" in name or ".ln_" in name or "lambda_" in name:
                weight.copy_(0.3 * drawn + (not name.endswith("bias")))
            elif weight.dim() == 1 or "bias_table" in name:
                weight.copy_(0.5 * drawn)
            elif "wte" in name or "token" in name or "patch_embeddings" in name:
                weight.copy_(drawn * (0.2 if "patch" in name else 1))
            else:
                weight.copy_(1.5 * drawn / weight[0].numel() ** 0.5)
    return network


def image_processor(size=16):
    return BeitImageProcessorPil(
        size={"height": size, "width": size}, do_center_crop=False, image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )  # fmt: skip


def build():
    return Limber(build_network(), build_tokenizer(), image_processor(), "cpu")


def _norm(w, name, x, eps=1e-5):
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _turned(x, turned):
    """Components 2i and 2i + 1 turn by position x 10000^(-2i/turned); the rest of a head stays."""
    x = x.clone()
    for i in range(turned // 2):
        angle = torch.arange(len(x), dtype=x.dtype)[:, None] * 10000 ** (-2 * i / turned)
        a, b = x[..., 2 * i].clone(), x[..., 2 * i + 1].clone()
        x[..., 2 * i] = a * angle.cos() - b * angle.sin()
        x[..., 2 * i + 1] = b * angle.cos() + a * angle.sin()
    return x


def gptj_logits(w, x, heads, n_layers, turned, watch=None):
    """Embeddings `tokens x hidden` to logits `tokens x vocabulary`.

    watch(kind, layer, values) sees pre and act of every layer (`tokens x units`) and may return
    other values to go on with.
    """
    watch = watch or (lambda kind, layer, values: values)
    n, dim = x.shape
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    for i in range(n_layers):
        p = f"language.transformer.h.{i}."
        y = _norm(w, p + "ln_1", x)
        q, k, v = ((y @ w[p + f"attn.{name}_proj.weight"].T).view(n, heads, -1) for name in "qkv")
        scores = torch.einsum("qhd,khd->hqk", _turned(q, turned), _turned(k, turned))
        weights = (scores / math.sqrt(dim // heads)).masked_fill(future, -math.inf).softmax(dim=-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, v).reshape(n, dim)
        attended = mixed @ w[p + "attn.out_proj.weight"].T
        pre = watch("pre", i, y @ w[p + "mlp.fc_in.weight"].T + w[p + "mlp.fc_in.bias"])
        inner = math.sqrt(2 / math.pi) * (pre + 0.044715 * pre**3)
        act = watch("act", i, 0.5 * pre * (1 + torch.tanh(inner)))
        fed = act @ w[p + "mlp.fc_out.weight"].T + w[p + "mlp.fc_out.bias"]
        x = x + attended + fed
    x = _norm(w, "language.transformer.ln_f", x)
    return x @ w["language.lm_head.weight"].T + w["language.lm_head.bias"]


class ByHand:
    """The same model as an adapter, for one picture and one list of token ids at a time."""

    def __init__(self, network, turned=ROTARY):
        self.w = {name: weight.double() for name, weight in network.state_dict().items()}
        self.tower, self.turned = network.vision, turned
        text = network.config.text_config
        self.heads, self.n_layers = text.n_head, text.n_layer

    def tokens(self, pixels):
        """Pixels `3 x size x size` to image tokens: no norm after BEiT, no class token."""
        states = self.tower(pixels[None], output_hidden_states=True).hidden_states[-1][0]
        return states[1:].double() @ self.w["proj.weight"].T + self.w["proj.bias"]

    def embeddings(self, before, image, after):
        table = self.w["language.transformer.wte.weight"]
        return torch.cat([table[before], image, table[torch.tensor(after)]])

    def logits(self, embeddings, watch=None):
        return gptj_logits(self.w, embeddings, self.heads, self.n_layers, self.turned, watch)

    def greedy(self, before, image, after, max_new_tokens, eos):
        """Argmax by argmax, everything computed anew at every step."""
        found = []
        for _ in range(max_new_tokens):
            logits = self.logits(self.embeddings(before, image, [*after, *found]))
            best = int(logits[-1].argmax())
            if best == eos:
                break
            found.append(best)
        return found


def own_generation(model, pictures, prompts, n, **settings):
    """By transformers' own GPT-J, each row alone, from embeddings laid out here."""
    rows, end = [], model.tokenizer.eos_token_id
    table = model.network.language.transformer.wte.weight
    for picture, prompt in zip(pictures, prompts, strict=True):
        pixels = model.image_processor(images=[picture], return_tensors="pt").pixel_values
        image = model.network.vision(pixels).last_hidden_state[:, 1:]
        words = table[[IDS[word] for word in prompt.split()]]
        embeds = torch.cat([model.network.proj(image)[0], words])[None]
        tokens = model.network.language.generate(
            inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=n, do_sample=False, eos_token_id=end, pad_token_id=end, **settings,
        )[0].tolist()  # fmt: skip
        rows.append(tokens[: tokens.index(end)] if end in tokens else tokens)
    return rows
