"""What the rest of the library may ask of a multimodal language model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import nn
from transformers import GenerationConfig

from mmneurons.models.loading import is_quantised, plain_weight, spread_of

Module = Literal["language", "vision", "projector", "qformer.query", "qformer.text"]
Positions = Literal["image", "last"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class FfnSite:
    """One FFN layer: where its neurons are read and written.

    `activation` is the module of the activation function: its input is `pre`, its output `act`.
    `output` is the projection back to the residual stream: its input is `post`. In a plain FFN
    `act` and `post` are the same numbers; in a gated one (Llama) `post` = act x up, and only
    `post` times the rows of `output` adds up to the FFN's output. `inputs` are the projections that
    a neuron reads by, a row of each weight: one of a plain FFN, gate and partner of a gated one;
    left out where a family does not say (language layers always do).
    """

    module: Module
    layer: int
    activation: nn.Module
    output: nn.Linear
    inputs: tuple[nn.Linear, ...] = ()

    @classmethod
    def gated(cls, module: Module, layer: int, mlp: nn.Module) -> FfnSite:
        """An FFN as Llama has it, with the names that transformers gives its parts."""
        return cls(module, layer, mlp.act_fn, mlp.down_proj, (mlp.gate_proj, mlp.up_proj))

    @property
    def n_units(self) -> int:
        """Number of neurons of the layer."""
        return self.output.in_features

    def output_rows(self) -> torch.Tensor:
        """W_out, one row a neuron: `units x hidden`, on the layer's device."""
        return plain_weight(self.output).T


@dataclass(frozen=True)
class Encoded:
    """A batch ready for the decoder.

    Rows are aligned so that all prompts end at the same position: shorter prompts are padded on
    the left, shorter continuations on the right.

    embeds: `batch x tokens x hidden`; mask: `batch x tokens`, 1 where there is a token;
    image_mask: `batch x tokens`, true at image tokens;
    columns: `batch x tokens x token_columns`, what image tokens carry behind their embedding;
    prompt_end: position of the first continuation token; lengths: continuation tokens of each row;
    grid: rows and columns of the image tokens on the picture, None where they have no place on it.
    """

    embeds: torch.Tensor
    mask: torch.Tensor
    image_mask: torch.Tensor
    prompt_end: int
    lengths: tuple[int, ...]
    grid: tuple[int, int] | None
    columns: torch.Tensor | None = None

    @property
    def image(self) -> torch.Tensor:
        """Positions of the image tokens in the row, `batch x image tokens`.

        Raises ValueError where the pictures of a batch have different numbers of them.
        """
        numbers = set(self.image_mask.sum(dim=1).tolist())
        if len(numbers) != 1:
            raise ValueError(
                f"pictures of one batch have {sorted(numbers)} image tokens; what is asked of them "
                "needs the same number, so take one picture a batch"
            )
        return self.image_mask.nonzero()[:, 1].view(len(self.image_mask), -1)

    @property
    def position_ids(self) -> torch.Tensor:
        """Positions that do not count the padding: `batch x tokens`."""
        return (self.mask.cumsum(dim=1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Decoding:
    """How a continuation is generated.

    num_beams and length_penalty belong to "beam", temperature and seed to "sample"; a sample
    depends on the batch that it is drawn in.
    """

    strategy: Literal["greedy", "beam", "sample"] = "greedy"
    num_beams: int = 5
    length_penalty: float = 1.0
    temperature: float = 1.0
    seed: int = 0

    @property
    def rows(self) -> int:
        """Rows of the decoder's passes for each row of the batch."""
        return self.num_beams if self.strategy == "beam" else 1

    def settings(self) -> dict:
        """The same as transformers calls it."""
        if self.strategy == "beam":
            return {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        if self.strategy == "sample":
            # Else transformers would keep the 50 most probable tokens only.
            return {"do_sample": True, "temperature": self.temperature, "top_k": 0}
        return {}


GREEDY = Decoding()


class ModelCheckError(ValueError):
    """A loaded model is not what its adapter or the registry says it is."""


def check_weights(loading: dict, path: Path, family: str) -> None:
    """Raise ModelCheckError where transformers found no weights for a part of the network."""
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:5])
        raise ModelCheckError(f"{family}: no weights in {path} for {missing}")


def processed_box(image_processor, size: tuple[int, int]) -> Box:
    """What one of transformers' image processors leaves of a picture, by its settings.

    size: (width, height) in pixels. Left, top, right, bottom in pixels of the picture, rounded
    outwards. Raises ModelCheckError where the picture does not fill the crop or where its size
    after the resizing is given in another way than by the shortest edge or by height and width.
    """
    if not image_processor.do_center_crop:
        return 0, 0, *size
    scaled = _resized(image_processor, size) if image_processor.do_resize else size
    crop = image_processor.crop_size
    if scaled[0] < crop["width"] or scaled[1] < crop["height"]:
        raise ModelCheckError(
            f"the image processor crops {crop['width']} x {crop['height']} pixels from "
            f"{scaled[0]} x {scaled[1]}: the rest would be no part of the picture"
        )
    left, right = _kept(size[0], scaled[0], crop["width"])
    top, bottom = _kept(size[1], scaled[1], crop["height"])
    return left, top, right, bottom


def _resized(image_processor, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after the resizing."""
    wanted = {name: value for name, value in dict(image_processor.size).items() if value}
    if set(wanted) == {"height", "width"}:
        return wanted["width"], wanted["height"]
    if set(wanted) != {"shortest_edge"}:
        raise ModelCheckError(f"the image processor resizes pictures by {sorted(wanted)}")
    short = wanted["shortest_edge"]
    # The longer edge is cut off to whole pixels, as transformers does.
    width, height = (int(short * edge / min(size)) for edge in size)
    return width, height


def _kept(length: int, scaled: int, cropped: int) -> tuple[int, int]:
    """First pixel of the centre crop and the one after its last, before the resizing."""
    start = (scaled - cropped) // 2
    return start * length // scaled, -(-(start + cropped) * length // scaled)


def stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """One tensor where all have the same shape, else the list of them."""
    same = len({tensor.shape for tensor in tensors}) == 1
    return torch.stack(list(tensors)) if same else list(tensors)


def byte_level_texts(tokenizer, tokens: Sequence[int]) -> list[str]:
    """`token_texts` of a tokenizer that spells bytes, as GPT-2's does.

    A token that is a part of a character's bytes only is "\ufffd".
    """
    texts = tokenizer.batch_decode([[int(token)] for token in tokens])
    return [text.replace(" ", "\u2581") for text in texts]


def overlap(n: int, parts: int) -> torch.Tensor:
    """Shares of `n` equal stretches of a line that lie in each of `parts`: `n x parts`."""
    edges = torch.arange(n + 1, dtype=torch.float64) / n
    cuts = torch.arange(parts + 1, dtype=torch.float64) / parts
    low = torch.maximum(edges[:-1, None], cuts[None, :-1])
    high = torch.minimum(edges[1:, None], cuts[None, 1:])
    return ((high - low).clamp(min=0) * n).float()


class MultimodalModel(ABC):
    """One family's answers. Nothing outside an adapter knows how a family is built.

    device: where inputs go, and where what is asked of the model comes from. Of a model that is
    spread over several GPUs it is the one of the embeddings; sites and what passes them are each on
    their layer's own.
    """

    family: str
    kept_precise: tuple[str, ...] = ("lm_head",)
    """Parts of names of modules that keep their number format in a model of 8 bits."""
    token_columns: int = 0
    """Columns of an image token behind its embedding, for what a decoder has to know besides."""
    language_bias: bool = False
    """Whether an FFN of the language model also writes a bias, which belongs to no neuron."""

    def __init__(self, network: nn.Module, tokenizer, device: str | torch.device):
        # The weights never change by a gradient here; without this, every backward pass would
        # also compute theirs.
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        if spread_of(network) is not None:
            self.device = network.get_input_embeddings().weight.device
            return
        self.device = torch.device(device)
        if {weight.device for weight in network.parameters()} != {self.device}:
            network.to(self.device)  # weights of 8 bits are there, and may not be asked to move

    # -- what a family must answer ---------------------------------------------------------

    @classmethod
    @abstractmethod
    def load(
        cls, path: Path, device: str | torch.device, dtype: torch.dtype, **placement
    ) -> MultimodalModel:
        """Load from a directory written by `save_pretrained`.

        placement: further arguments of `from_pretrained`, from `loading.placement`.
        """

    @abstractmethod
    def preprocess(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """RGB pictures of any size to normalised pixels `batch x 3 x height x width`."""

    @abstractmethod
    def embed_pixels(
        self, pixels: torch.Tensor, prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        """Pixels to image tokens `batch x image tokens x hidden`, differentiable.

        A list of `image tokens x hidden` where some pictures have more of them than others
        (`stacked`). Behind `hidden` come the family's `token_columns`. prompt: the filled prompt,
        one for all pictures or one a picture; only families whose image tokens depend on the text
        read it.
        """

    @abstractmethod
    def picture_layer(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """Where GradCAM looks.

        A module of the vision tower whose output is about patches, and how that output becomes
        `batch x channels x rows x cols`.
        """

    @abstractmethod
    def segments(self, prompt: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the image tokens."""

    @abstractmethod
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the image tokens on the picture, if they have a place on it."""

    def seen_box(self, size: tuple[int, int]) -> Box:
        """The part of a picture that the patches cover: left, top, right, bottom, in its pixels.

        size: (width, height) of the picture. All of it, unless the family crops.
        """
        return 0, 0, *size

    def patch_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches on the picture that image tokens can be traced to."""
        return self.grid()

    def patch_weights(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor] | None:
        """How much of each patch an image token reads: `batch x image tokens x patches`.

        A list where pictures have different numbers of image tokens. None where image tokens are
        themselves the patches. A family whose image tokens are queries
        answers with its cross-attention, each row adding up to 1 (0 for a token that reads none).
        """
        return None

    @abstractmethod
    def sites(self, module: Module = "language") -> list[FfnSite]:
        """The FFN layers of a module, first layer first; empty where the family has no such."""

    @property
    @abstractmethod
    def decoder(self) -> nn.Module:
        """The causal language model: takes `inputs_embeds`, has `generate` and `lm_head`."""

    # -- what follows from it --------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Number format of what passes the model."""
        return self.unembedding().dtype

    @torch.no_grad()
    def embed_pictures(
        self, pictures: Sequence[Image.Image], prompt: str | Sequence[str] = ""
    ) -> torch.Tensor | list[torch.Tensor]:
        """Pictures to image tokens; what they are and what the prompt is, `embed_pixels` says."""
        pixels = self.preprocess(pictures).to(self.device, self.dtype)
        tokens = self.embed_pixels(pixels, prompt)
        return stacked([of_picture.to(self.device) for of_picture in tokens])

    def image_encoder(self) -> nn.Module | None:
        """The vision tower, if its output holds an embedding of the picture as `pooler_output`."""
        return None

    def n_image_tokens(self, size: tuple[int, int]) -> int:
        """Image tokens of a picture; size: (width, height) in pixels, which few families ask."""
        grid = self.grid()
        if grid is None:
            raise NotImplementedError(f"{self.family} does not say how many image tokens it has")
        return grid[0] * grid[1]

    def n_tokens(self, prompt: str, size: tuple[int, int]) -> int:
        """Tokens of a prompt with a picture of this size, image tokens among them."""
        before, after = self.segments(prompt)
        return len(before) + self.n_image_tokens(size) + len(after)

    def owners(
        self,
        module: Module,
        encoded: Encoded | None,
        sizes: Sequence[tuple[int, int]],
        prompts: Sequence[str],
    ) -> torch.Tensor:
        """To which row of a batch each position of a module's activations belongs.

        `rows x positions`, -1 for padding, or `rows` where all positions of a row are its
        picture's; of a module without rows, which sees the positions of all pictures one after the
        other, each position is a row. encoded: needed for the language model only; sizes: (width,
        height) of each picture; prompts: filled, one a picture.
        """
        rows = torch.arange(len(sizes), device=self.device)
        if module == "language":
            return torch.where(encoded.mask > 0, rows[:, None], -1)
        return rows

    def decoder_inputs(self, encoded: Encoded) -> dict[str, torch.Tensor]:
        """What the decoder of this family has to be given besides embeddings and mask.

        `position_ids` among them replace `encoded.position_ids`.
        """
        return {}

    def inert_layers(self, module: Module, positions: Positions) -> frozenset[int]:
        """Layers of a module whose neurons at these positions can reach no logit.

        At image positions that is the last language layer: no later layer reads its output, and
        no logit is taken there.
        """
        if module == "language" and positions == "image":
            return frozenset(site.layer for site in self.sites("language")[-1:])
        return frozenset()

    def unembedding(self) -> torch.Tensor:
        """W_u, one row a token: `vocabulary x hidden`, on the device of the last layer."""
        return self.decoder.lm_head.weight

    @property
    def trunk(self) -> nn.Module:
        """The decoder without its head: from embeddings to states after the final norm."""
        return self.decoder.model

    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks, first one first."""
        return self.trunk.layers

    def final_norm(self) -> nn.Module:
        """The norm between the last block and the unembedding."""
        return self.trunk.norm

    def encode(
        self,
        image_tokens: torch.Tensor | Sequence[torch.Tensor],
        prompt: str | Sequence[str],
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> Encoded:
        """Lay out image tokens, prompt and (teacher-forced) continuation.

        image_tokens: from `embed_pictures`, `image tokens x hidden` a row;
        prompt: one for all rows or one a row; continuations: token ids, one list a row.
        """
        batch, hidden = len(image_tokens), image_tokens[0].shape[-1] - self.token_columns
        prompts = [prompt] * batch if isinstance(prompt, str) else list(prompt)
        continuations = [[]] * batch if continuations is None else continuations
        if not len(prompts) == len(continuations) == batch:
            raise ValueError("pictures, prompts and continuations differ in number")
        segments = [self.segments(text) for text in prompts]
        ends = [
            len(before) + len(tokens) + len(after)
            for (before, after), tokens in zip(segments, image_tokens, strict=True)
        ]
        prompt_end, tail = max(ends), max(map(len, continuations))

        table = self.decoder.get_input_embeddings()
        image_tokens = [tokens.to(self.device) for tokens in image_tokens]
        embeds = image_tokens[0].new_zeros(batch, prompt_end + tail, hidden)
        mask = torch.zeros(batch, prompt_end + tail, dtype=torch.long, device=self.device)
        image_mask = torch.zeros_like(mask, dtype=torch.bool)
        columns = image_tokens[0].new_zeros(*mask.shape, self.token_columns)
        for row, (before, after) in enumerate(segments):
            start = prompt_end - ends[row]
            image_start = start + len(before)
            image_end = image_start + len(image_tokens[row])
            end = prompt_end + len(continuations[row])
            text = torch.tensor([*before, *after, *continuations[row]], device=self.device)
            words = table(text)
            embeds[row, start:image_start] = words[: len(before)]
            embeds[row, image_start:image_end] = image_tokens[row][:, :hidden]
            columns[row, image_start:image_end] = image_tokens[row][:, hidden:]
            embeds[row, image_end:end] = words[len(before) :]
            mask[row, start:end] = 1
            image_mask[row, image_start:image_end] = True
        return Encoded(
            embeds=embeds,
            mask=mask,
            image_mask=image_mask,
            prompt_end=prompt_end,
            lengths=tuple(map(len, continuations)),
            grid=self.grid(),
            columns=columns,
        )

    def final_states(self, encoded: Encoded) -> torch.Tensor:
        """Hidden states after the final norm: `batch x tokens x hidden`."""
        inputs = {"position_ids": encoded.position_ids} | self.decoder_inputs(encoded)
        states = self.trunk(
            inputs_embeds=encoded.embeds, attention_mask=encoded.mask, use_cache=False, **inputs
        ).last_hidden_state
        return states.to(self.device)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits `... x vocabulary` of final states `... x hidden`."""
        return self.decoder.lm_head(states.to(self.unembedding().device)).to(self.device)

    @torch.no_grad()
    def generate(
        self, encoded: Encoded, max_new_tokens: int, decoding: Decoding = GREEDY
    ) -> list[list[int]]:
        """Continuation of each row, without the end token and what follows it."""
        if any(encoded.lengths):
            raise ValueError("generation starts from prompts without a continuation")
        eos = self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        settings = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
        settings |= {"eos_token_id": eos, "pad_token_id": eos if pad is None else pad}
        settings |= {"max_new_tokens": max_new_tokens} | decoding.settings()
        devices = {weight.device for weight in self.network.parameters()}
        devices = [device for device in devices if device.type == "cuda"]
        with torch.random.fork_rng(devices):
            torch.manual_seed(decoding.seed)
            tokens = self.decoder.generate(
                inputs_embeds=encoded.embeds,
                attention_mask=encoded.mask,
                generation_config=GenerationConfig(**settings),
                **self.decoder_inputs(encoded),
            )
        return [row[: row.index(eos)] if eos in row else row for row in tokens.tolist()]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Spelling of each token by itself, with \u2581 for a space as Llama's tokenizer has it."""
        return self.tokenizer.convert_ids_to_tokens(tokens)

    @torch.no_grad()
    def check(self, expected_units: dict[str, int] | None = None) -> None:
        """Compare the loaded model with what its adapter and the registry say of it.

        Raises ModelCheckError where activation x W_out rows do not add up to an FFN's output,
        where the image tokens do not fill the grid, or where a module's number of neurons is not
        `expected_units[module]`.
        """
        for module, expected in (expected_units or {}).items():
            units = sum(site.n_units for site in self.sites(module))
            if units != expected:
                raise ModelCheckError(
                    f"{self.family}: {module} has {units} neurons, not {expected}"
                )
        n_tokens = len(self.embed_pictures([Image.new("RGB", (32, 32))])[0])
        if self.grid() is not None and n_tokens != self.grid()[0] * self.grid()[1]:
            raise ModelCheckError(f"{self.family}: {n_tokens} image tokens, grid {self.grid()}")
        for site in self.sites("language")[:1]:
            error, allowed = self.decomposition_error(site)
            if not error <= allowed:
                raise ModelCheckError(f"{self.family}: W_out rows do not give the FFN's output")

    @torch.no_grad()
    def decomposition_error(self, site: FfnSite) -> tuple[float, float]:
        """How far activations x W_out rows are from the FFN's output, and how far they may be.

        Of made-up activations; the largest difference of a component, relative to 1 and the largest
        component. Weights of 8 bits also round the activations that they meet.
        """
        rows = site.output_rows().float()
        probe = torch.linspace(-1, 1, site.n_units, device=rows.device)
        passing = probe.to(self.dtype)
        # A bias is a part of the output that belongs to no neuron; Llama's kin have none.
        known = site.module != "language" or self.language_bias
        bias = site.output.bias.float() if known and site.output.bias is not None else 0
        by_rows = (passing.float()[:, None] * rows).sum(dim=0) + bias
        direct = site.output(passing[None, None])[0, 0].float()
        error = (by_rows - direct).abs().max() / (1 + direct.abs().max())
        precise = self.dtype in (torch.float32, torch.float64) and not is_quantised(site.output)
        return float(error), 1e-4 if precise else 3e-2


class ImageProcessorModel(MultimodalModel):
    """A family whose directory says how pictures are prepared: by an image processor."""

    def __init__(self, network: nn.Module, tokenizer, image_processor, device: str | torch.device):
        super().__init__(network, tokenizer, device)
        self.image_processor = image_processor

    def save(self, folder: Path) -> None:
        """Write the directory that `load` reads."""
        for part in (self.network, self.tokenizer, self.image_processor):
            part.save_pretrained(folder)

    def preprocess(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return self.image_processor(images=list(pictures), return_tensors="pt").pixel_values

    def seen_box(self, size: tuple[int, int]) -> Box:
        return processed_box(self.image_processor, size)
