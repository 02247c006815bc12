"""MiniGPT-4's forward pass once more, in plain functions on the state dict and in float64.

Written from the papers and the released checkpoints' layout, not from the code under test, one
picture and one row at a time, without padding and without a cache.
"""

import math

import torch


def weights_of(network):
    return {name: weight.double() for name, weight in network.state_dict().items()}


def image_tokens(w, pixels, patch, heads, n_layers, strip=4):
    """Pixels `3 x size x size` to image tokens `patches / strip x text hidden`."""
    _, size, _ = pixels.shape
    side = size // patch
    kernel = w["visual_encoder.patch_embed.proj.weight"].flatten(1)
    rows = [
        kernel @ pixels[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].flatten()
        for r in range(side)
        for c in range(side)
    ]
    x = torch.stack(rows) + w["visual_encoder.patch_embed.proj.bias"]
    x = torch.cat([w["visual_encoder.cls_token"][0], x]) + w["visual_encoder.pos_embed"][0]
    for i in range(n_layers):
        p = f"visual_encoder.blocks.{i}."
        x = x + _eva_attention(w, p + "attn.", _layer_norm(w, p + "norm1", x, 1e-6), heads)
        y = _layer_norm(w, p + "norm2", x, 1e-6)
        z = y @ w[p + "mlp.fc1.weight"].T + w[p + "mlp.fc1.bias"]
        gelu = z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
        x = x + gelu @ w[p + "mlp.fc2.weight"].T + w[p + "mlp.fc2.bias"]
    patches = _layer_norm(w, "ln_vision", x, 1e-5)[1:]
    strips = [torch.cat(list(patches[i : i + strip])) for i in range(0, len(patches), strip)]
    return torch.stack(strips) @ w["llama_proj.weight"].T + w["llama_proj.bias"]


def _layer_norm(w, name, x, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _eva_attention(w, p, x, heads):
    n, dim = x.shape
    q_weight, k_weight, v_weight = w[p + "qkv.weight"].split(dim)
    q = (x @ q_weight.T + w[p + "q_bias"]).view(n, heads, -1)
    k = (x @ k_weight.T).view(n, heads, -1)
    v = (x @ v_weight.T + w[p + "v_bias"]).view(n, heads, -1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(dim // heads)
    mixed = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), v).reshape(n, dim)
    return mixed @ w[p + "proj.weight"].T + w[p + "proj.bias"]


def llama_logits(w, x, heads, n_layers, eps=1e-5, theta=10000.0, watch=None):
    """Embeddings `tokens x hidden` to logits `tokens x vocabulary`.

    watch(kind, layer, values) sees pre, act and post of every layer (`tokens x units`) and may
    return other values to go on with.
    """
    watch = watch or (lambda kind, layer, values: values)
    n, dim = x.shape
    for i in range(n_layers):
        p = f"llama_model.model.layers.{i}."
        y = _rms_norm(w[p + "input_layernorm.weight"], x, eps)
        q, k, v = (
            (y @ w[p + f"self_attn.{name}_proj.weight"].T).view(n, heads, -1) for name in "qkv"
        )
        q, k = _rotate(q, theta), _rotate(k, theta)
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(dim // heads)
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, v).reshape(n, dim)
        x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
        y = _rms_norm(w[p + "post_attention_layernorm.weight"], x, eps)
        pre = watch("pre", i, y @ w[p + "mlp.gate_proj.weight"].T)
        act = watch("act", i, pre / (1 + torch.exp(-pre)))
        post = watch("post", i, act * (y @ w[p + "mlp.up_proj.weight"].T))
        x = x + post @ w[p + "mlp.down_proj.weight"].T
    return _rms_norm(w["llama_model.model.norm.weight"], x, eps) @ w["llama_model.lm_head.weight"].T


def _rms_norm(weight, x, eps):
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def _rotate(x, theta):
    """Rotary positions: the pair (i, i + d/2) turns by position x theta^(-2i/d)."""
    half = x.shape[-1] // 2
    speed = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(len(x), dtype=x.dtype)[:, None] * speed
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class ByHand:
    """The same model as an adapter, for one picture and one list of token ids at a time."""

    def __init__(self, network):
        self.w = weights_of(network)
        vision, text = network.config.vision_config, network.config.text_config
        self.vision = (vision.patch_size, vision.num_attention_heads, vision.num_hidden_layers)
        self.text = (text.num_attention_heads, text.num_hidden_layers)

    def tokens(self, pixels):
        return image_tokens(self.w, pixels.double(), *self.vision)

    def embeddings(self, before, image, after):
        table = self.w["llama_model.model.embed_tokens.weight"]
        return torch.cat([table[torch.tensor(before)], image, table[torch.tensor(after)]])

    def logits(self, embeddings, watch=None):
        return llama_logits(self.w, embeddings, *self.text, watch=watch)

    def recorded(self, embeddings):
        """pre, act and post, each a list of `tokens x units` by layer, and the logits."""
        kept = {"pre": [], "act": [], "post": []}

        def keep(kind, layer, values):
            kept[kind].append(values)
            return values

        return kept, self.logits(embeddings, keep)

    def with_gradients(self, embeddings, target):
        """Activations, and the gradients of the last position's target logit by each of them."""
        kept, logits = self.recorded(embeddings.clone().requires_grad_(True))
        flat = [tensor for kind in kept for tensor in kept[kind]]
        gradients = iter(torch.autograd.grad(logits[-1, target], flat))
        values = {kind: [tensor.detach() for tensor in kept[kind]] for kind in kept}
        return values, {kind: [next(gradients) for _ in kept[kind]] for kind in kept}, logits

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
