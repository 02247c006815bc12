"""mPLUG-Owl2's forward pass once more, in plain functions on the state dict and in float64.

Written from the paper and the released checkpoint's layout, not from the code under test, one
picture and one row at a time, head by head, without padding and without a cache.
"""

import math

import torch
from torch.nn import functional as F


def vision_states(w, pixels, patch, heads, n_layers, watch=None):
    """Pixels `3 x size x size` to `(1 + patches) x hidden`, class token first.

    watch(kind, layer, values) sees the FFN's pre and act of every layer, `tokens x units`.
    """
    p = "model.vision_model."
    kernel = w[p + "embeddings.patch_embed.weight"].flatten(1)
    side = pixels.shape[1] // patch
    corners = [(r * patch, c * patch) for r in range(side) for c in range(side)]
    patches = [kernel @ pixels[:, r : r + patch, c : c + patch].flatten() for r, c in corners]
    x = torch.stack([w[p + "embeddings.cls_token"][0, 0], *patches])
    x = x + w[p + "embeddings.position_embedding"][0]
    x = _layer_norm(w, p + "embeddings.pre_layernorm", x, 1e-6)
    for i in range(n_layers):
        q = f"{p}encoder.layers.{i}."
        x = x + _fused_attention(
            w, q + "self_attn.", _layer_norm(w, q + "input_layernorm", x), heads
        )
        pre = _linear(w, q + "mlp.fc1", _layer_norm(w, q + "post_attention_layernorm", x))
        act = pre / (1 + torch.exp(-1.702 * pre))
        if watch:
            watch("pre", i, pre)
            watch("act", i, act)
        x = x + _linear(w, q + "mlp.fc2", act)
    return _layer_norm(w, p + "post_layernorm", x)


def image_tokens(w, states, heads, n_layers, inner_eps=1e-6):
    """Vision states to `(queries + 1) x text hidden`, and attention `layers x heads x q x keys`.

    inner_eps: of the norm within the FFN.
    """
    p = "model.visual_abstractor."
    x = w[p + "query_embeds"][0]
    attention = []
    for i in range(n_layers):
        q = f"{p}encoder.layers.{i}.crossattention."
        x = _layer_norm(w, q + "norm1", x, 1e-5)
        keys = torch.cat([x, _layer_norm(w, q + "normk", states, 1e-5)])
        q_pos, k_pos = w[q + "attention.q_pos_embed"], w[q + "attention.k_pos_embed"]
        query = _linear(w, q + "attention.query", x + q_pos)
        key = _linear(w, q + "attention.key", keys + torch.cat([q_pos, k_pos]))
        value = _linear(w, q + "attention.value", keys)
        mixed, probabilities = _heads(query, key, value, heads)
        attention.append(probabilities)
        x = x + _linear(w, q + "output.out_proj", mixed)
        y = _layer_norm(w, q + "output.norm2", x, 1e-5)
        gate, up = _linear(w, q + "output.mlp.w1", y), _linear(w, q + "output.mlp.w3", y)
        gated = gate / (1 + torch.exp(-gate)) * up
        normed = _layer_norm(w, q + "output.mlp.ffn_ln", gated, inner_eps)
        x = x + _linear(w, q + "output.mlp.w2", normed)
    tokens = torch.cat([_linear(w, p + "visual_fc", x), w[p + "vit_eos"][0]])
    return tokens, torch.stack(attention)


def decoder_logits(w, x, modality, heads, n_layers, eps=1e-6, watch=None):
    """Embeddings `tokens x hidden`, and 0 or 1 a token, to logits `tokens x vocabulary`."""
    places = range(len(x))
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)

    def by_modality(name, values, apply):
        """Each token on its own through its modality's copy."""
        rows = [apply(w[f"{name}.multiway.{modality[t]}.weight"], values[t]) for t in places]
        return torch.stack(rows)

    def project(weight, row):
        return weight @ row

    def norm(weight, row):
        return _rms_norm(weight, row, eps)

    for i in range(n_layers):
        p = f"model.layers.{i}."
        y = by_modality(p + "input_layernorm", x, norm)
        q = y @ w[p + "self_attn.q_proj.weight"].T
        k = by_modality(p + "self_attn.k_proj", y, project)
        v = by_modality(p + "self_attn.v_proj", y, project)
        mixed, _ = _heads(_rotated(q, heads), _rotated(k, heads), v, heads, future)
        x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
        y = by_modality(p + "post_attention_layernorm", x, norm)
        pre = y @ w[p + "mlp.gate_proj.weight"].T
        act = pre / (1 + torch.exp(-pre))
        post = act * (y @ w[p + "mlp.up_proj.weight"].T)
        if watch:
            for kind, values in (("pre", pre), ("act", act), ("post", post)):
                watch(kind, i, values)
        x = x + post @ w[p + "mlp.down_proj.weight"].T
    return _rms_norm(w["model.norm.weight"], x, eps) @ w["lm_head.weight"].T


def _linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _layer_norm(w, name, x, eps=1e-6):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def _rms_norm(weight, x, eps):
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def _heads(q, k, v, heads, hidden=None):
    """Attention head by head: what was read, `queries x dim`, and the probabilities by head."""
    read, probabilities = [], []
    for query, key, value in zip(*(x.chunk(heads, dim=1) for x in (q, k, v)), strict=True):
        scores = query @ key.T / math.sqrt(query.shape[1])
        if hidden is not None:
            scores = scores.masked_fill(hidden, -math.inf)
        probabilities.append(scores.softmax(dim=1))
        read.append(probabilities[-1] @ value)
    return torch.cat(read, dim=1), torch.stack(probabilities)


def _fused_attention(w, p, x, heads):
    """The fused rows are, head after head, those of its query, of its key and of its value."""
    blocks = _linear(w, p + "query_key_value", x).chunk(3 * heads, dim=1)
    q, k, v = (torch.cat(blocks[part::3], dim=1) for part in range(3))
    return _linear(w, p + "dense", _heads(q, k, v, heads)[0])


def _rotated(x, heads, theta=10000.0):
    """In each head, the pair (i, i + d/2), as a complex number, turns by place x theta^(-2i/d)."""
    half = x.shape[1] // heads // 2
    speed = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    turn = torch.polar(
        torch.ones(len(x), half, dtype=x.dtype), torch.arange(len(x))[:, None] * speed
    )
    turned = [torch.complex(*head.split(half, dim=1)) * turn for head in x.chunk(heads, dim=1)]
    return torch.cat([part for z in turned for part in (z.real, z.imag)], dim=1)


class ByHand:
    """The same model as an adapter, for one picture and one list of token ids at a time."""

    def __init__(self, network):
        self.w = {name: weight.double() for name, weight in network.state_dict().items()}
        config, visual = network.config, network.config.visual_config
        vision, abstractor = visual.visual_model, visual.visual_abstractor
        self.vision = (vision.patch_size, vision.num_attention_heads, vision.num_hidden_layers)
        self.abstractor = (abstractor.num_attention_heads, abstractor.num_hidden_layers)
        self.text = (config.num_attention_heads, config.num_hidden_layers)

    def states(self, pixels, watch=None):
        return vision_states(self.w, pixels.double(), *self.vision, watch=watch)

    def tokens(self, pixels):
        return image_tokens(self.w, self.states(pixels), *self.abstractor)[0]

    def attention(self, pixels):
        return image_tokens(self.w, self.states(pixels), *self.abstractor)[1]

    def logits(self, before, image, after, modality=None, watch=None):
        """Logits of BOS and text, image tokens, text; modality: of the image tokens, else all 1."""
        table = self.w["model.embed_tokens.weight"]
        x = torch.cat([table[torch.tensor(before)], image, table[torch.tensor(after)]])
        modality = [1] * len(image) if modality is None else modality
        modality = [0] * len(before) + modality + [0] * len(after)
        return decoder_logits(self.w, x, modality, *self.text, watch=watch)

    def greedy(self, before, image, after, max_new_tokens, eos):
        """Argmax by argmax, everything computed anew at every step."""
        found = []
        for _ in range(max_new_tokens):
            best = int(self.logits(before, image, [*after, *found])[-1].argmax())
            if best == eos:
                break
            found.append(best)
        return found
