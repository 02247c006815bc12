"""One small random model a family, and what every adapter has to pass with it.

A new family needs an entry in CASES; tests/test_model_families.py and tests/test_loading.py then
hold it to all of this. What is the family's own has its own test file.
"""

from collections.abc import Callable
from dataclasses import dataclass

import conftest
import limber_by_hand
import llava_next_world
import minigpt4_by_hand
import mplug_owl2_by_hand
import numpy as np
import qwen_world
import test_instructblip
import test_llava
import test_mplug_owl2
import torch

from mmneurons.interventions.weights import changed_rows
from mmneurons.models.base import Decoding, MultimodalModel
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.models.mplug_owl2 import MPlugOwl2, square_image_processor
from mmneurons.probe.counts import MODULES
from mmneurons.probe.hooks import record, watch_outputs

BEAMS = {"num_beams": 3, "length_penalty": -1.0}


@dataclass(frozen=True)
class Case:
    """A family's small model.

    build: makes it, always the same one; prompts: two of different lengths, with text before the
    picture where the family allows it; own: (model, pictures, prompts, n, settings) to generated
    tokens without what the adapter adds: by transformers' own class, or where it has none argmax by
    argmax of a second forward pass, which knows no settings; varying: whether the number of image
    tokens depends on the picture's size.
    """

    build: Callable[[], MultimodalModel]
    prompts: tuple[str, str]
    own: Callable[..., list[list[int]]]
    varying: bool = False
    beams: bool = True

    def save(self, folder):
        """Write the model's directory as its family's checkpoints are laid out."""
        model = self.build()
        if hasattr(model, "save"):
            model.save(folder)
        else:
            model.network.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)


def by_hand(second):
    """Greedy tokens of a second implementation, row by row."""

    def own(model, pictures, prompts, n):
        hand, rows = second.ByHand(model.network), []
        for pixels, prompt in zip(model.preprocess(pictures), prompts, strict=True):
            before, after = model.segments(prompt)
            end = model.tokenizer.eos_token_id
            rows.append(hand.greedy(before, hand.tokens(pixels), after, n, end))
        return rows

    return own


def one_by_one(ids_of, inputs_of, end, pad):
    """Tokens of transformers' own generation, each picture alone."""

    def own(model, pictures, prompts, n, **settings):
        rows = []
        for picture, prompt in zip(pictures, prompts, strict=True):
            ids = ids_of(model, picture, prompt)
            tokens = model.network.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=n,
                do_sample=False, eos_token_id=end, pad_token_id=pad,
                **inputs_of(model, picture, prompt), **settings,
            )[0, ids.shape[1] :].tolist()  # fmt: skip
            rows.append(tokens[: tokens.index(end)] if end in tokens else tokens)
        return rows

    return own


def pixels_of(model, picture, _prompt):
    return model.image_processor(images=[picture], return_tensors="pt")


def instruct_inputs(model, picture, prompt):
    inputs = test_instructblip.own_inputs([prompt])
    asked = {name: inputs[name] for name in ("qformer_input_ids", "qformer_attention_mask")}
    return {"pixel_values": model.preprocess([picture])} | asked


def next_ids(model, picture, prompt):
    n = len(model.network.get_image_features(**pixels_of(model, picture, "")).pooler_output[0])
    return torch.tensor([llava_next_world.own_ids(prompt, n)])


CASES = {
    "minigpt4": Case(
        lambda: MiniGPT4(conftest.build_network(0), conftest.build_tokenizer(), "cpu"),
        (
            "[INST] <Img> <ImageHere> </Img> Describe [/INST] The image",
            "Give the following image: [INST] <Img> <ImageHere> </Img> Describe this [/INST] The",
        ),
        by_hand(minigpt4_by_hand),
        beams=False,
    ),
    "llava": Case(
        test_llava.build,
        (test_llava.SHORT, test_llava.LONG),
        one_by_one(
            lambda _model, _picture, prompt: torch.tensor([test_llava.own_ids(prompt)]),
            pixels_of, 2, 3,
        ),
    ),
    "llava_next": Case(
        llava_next_world.build,
        (llava_next_world.SHORT, llava_next_world.LONG),
        one_by_one(next_ids, pixels_of, 2, 3),
        varying=True,
    ),
    "instructblip": Case(
        test_instructblip.build,
        (test_instructblip.SHORT, test_instructblip.LONG),
        one_by_one(
            lambda _model, _picture, prompt: torch.tensor([test_instructblip.own_ids(prompt)]),
            instruct_inputs, 2, 3,
        ),
    ),
    "qwen2_5_vl": Case(
        qwen_world.build,
        (qwen_world.SHORT, qwen_world.LONG),
        qwen_world.own_generation,
        varying=True,
    ),
    "mplug_owl2": Case(
        lambda: MPlugOwl2(
            test_mplug_owl2.build_network(), test_mplug_owl2.build_tokenizer(),
            square_image_processor(16), "cpu",
        ),
        (test_mplug_owl2.SHORT, test_mplug_owl2.LONG),
        by_hand(mplug_owl2_by_hand),
        beams=False,
    ),
    "limber": Case(
        limber_by_hand.build,
        (limber_by_hand.SHORT, limber_by_hand.LONG),
        limber_by_hand.own_generation,
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------- the checks


def check_image_tokens(case, model, pictures):
    """As many as the size says, at the places that the prompt gives them."""
    numbers = set()
    for picture in pictures:
        for prompt in case.prompts:
            (tokens,) = model.embed_pictures([picture], prompt)
            assert model.n_image_tokens(picture.size) == len(tokens)
            encoded = model.encode([tokens], prompt)
            assert model.n_tokens(prompt, picture.size) == encoded.mask.sum() == encoded.prompt_end
            assert encoded.image_mask.sum() == len(tokens)
            numbers.add(len(tokens))
    assert (len(numbers) > 1) == case.varying


def check_layout(case, model, pictures):
    """Rows end together, positions count from each row's first token, the rest is padding."""
    short, long = case.prompts
    pictures = [picture.resize((30, 20)) for picture in pictures[:3]]
    prompts, continuations = [short, long, long], [[5, 6], [], [7]]
    tokens = model.embed_pictures(pictures, prompts)
    encoded = model.encode(tokens, prompts, continuations)
    assert encoded.image.shape == (3, model.n_image_tokens((30, 20)))
    both = torch.cat([encoded.embeds, encoded.columns], dim=2)
    for row, prompt in enumerate(prompts):
        assert torch.equal(both[row, encoded.image[row]], tokens[row])
        before, after = model.segments(prompt)
        start = encoded.prompt_end - model.n_tokens(prompt, (30, 20))
        expected = range(start + len(before), encoded.prompt_end - len(after))
        assert encoded.image[row].tolist() == list(expected)
        real = encoded.mask[row].nonzero()[:, 0]
        assert real.tolist() == [*range(start, encoded.prompt_end + len(continuations[row]))]
        # Every position of the language model is this row's, but the padding.
        owners = model.owners("language", encoded, [(30, 20)] * 3, prompts)[row]
        assert owners[real].eq(row).all() and owners.ne(-1).sum() == len(real)
        assert encoded.position_ids[row, real].tolist() == list(range(len(real)))


def check_generation(case, model, pictures):
    """Of a batch, of each row alone, and by the plain library: the same tokens."""
    prompts = [case.prompts[n % 2] for n in range(len(pictures))]
    own = case.own(model, pictures, prompts, 7)
    together = model.generate(model.encode(model.embed_pictures(pictures, prompts), prompts), 7)
    assert together == own
    assert len({tuple(row) for row in own}) > 1 and max(map(len, own)) > 2
    for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        alone = model.encode(model.embed_pictures([picture], prompt), prompt)
        assert model.generate(alone, 7) == own[row : row + 1]


def check_beams(case, model, pictures):
    """Beams of a batch are those of each row alone, and of the plain library where it has them."""
    prompts = [case.prompts[n % 2] for n in range(len(pictures))]
    decoding = Decoding("beam", **BEAMS)
    encoded = model.encode(model.embed_pictures(pictures, prompts), prompts)
    together = model.generate(encoded, 6, decoding)
    for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        alone = model.encode(model.embed_pictures([picture], prompt), prompt)
        assert model.generate(alone, 6, decoding) == together[row : row + 1]
    if case.beams:
        assert together == case.own(model, pictures, prompts, 6, **BEAMS)


def check_padding(case, model, pictures):
    """Logits of a padded batch are those of each row alone."""
    prompts = [case.prompts[n % 2] for n in range(len(pictures))]
    said = [[5, 6], [], [7]] * len(pictures)
    said = said[: len(pictures)]
    encoded = model.encode(model.embed_pictures(pictures, prompts), prompts, said)
    together = model.logits(model.final_states(encoded))
    for row, (picture, prompt, tokens) in enumerate(zip(pictures, prompts, said, strict=True)):
        alone = model.encode(model.embed_pictures([picture], prompt), prompt, [tokens])
        expected = model.logits(model.final_states(alone))[0]
        got = together[row, encoded.mask[row].bool()]
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def check_decomposition(case, model, pictures):
    """Of every layer of every module: activations at `post` x rows of W_out are the FFN's output.

    In a plain FFN `act` and `post` are the same; `pre` is what the activation function reads.
    """
    assert model.sites("language") and not model.sites("none")
    for module in MODULES:
        sites = model.sites(module)
        assert [site.layer for site in sites] == list(range(len(sites)))
        outputs = []
        with (
            record(sites, ["pre", "act", "post"]) as passed,
            watch_outputs([site.output for site in sites], outputs.append),
        ):
            tokens = model.embed_pictures(pictures, case.prompts[0])
            if module == "language":
                model.final_states(model.encode(tokens, case.prompts[0]))
        for place, (site, output) in enumerate(zip(sites, outputs, strict=True)):
            assert site.n_units == len(site.output_rows())
            pre, act, post = (passed[kind][place] for kind in ("pre", "act", "post"))
            assert torch.equal(act, site.activation(pre))
            assert act.shape == post.shape and act.shape[-1] == site.n_units
            bias = 0 if site.output.bias is None else site.output.bias
            made = post @ site.output_rows() + bias
            torch.testing.assert_close(made.view_as(output), output, atol=1e-4, rtol=1e-4)


def check_hooks(case, model, pictures):
    """What was hooked on and changed is gone: the same bits, the same weights, no hook more."""
    prompt = case.prompts[0]

    def states():
        with torch.no_grad():
            return model.final_states(model.encode(model.embed_pictures(pictures, prompt), prompt))

    before, weights = states(), [weight.clone() for weight in model.network.parameters()]
    n_hooks = conftest.n_hooks(model.network)
    neurons = np.array([[0, 1], [1, 0]])
    delta = torch.linspace(-1, 1, 2 * model.unembedding().shape[1]).view(2, -1)
    with changed_rows(model, neurons, delta):
        assert (states() - before).abs().max() > 1e-3
    with record(model.sites("language"), ["pre", "act", "post"]):
        assert torch.equal(states(), before)
    assert torch.equal(states(), before)
    assert conftest.n_hooks(model.network) == n_hooks
    assert all(map(torch.equal, weights, model.network.parameters()))


def check_inert(case, model, pictures):
    """Silencing a layer that is said to reach nothing changes nothing, of any other it does."""
    prompt = case.prompts[0]

    def states(silent=None):
        hooks = []
        if silent is not None:
            hooks.append(silent.register_forward_hook(lambda _m, _a, output: output * 0))
        try:
            with torch.no_grad():
                tokens = model.embed_pictures(pictures[:1], prompt)
                return model.final_states(model.encode(tokens, prompt))
        finally:
            for hook in hooks:
                hook.remove()

    before = states()
    for module in MODULES:
        for site in model.sites(module):
            same = torch.equal(states(site.activation), before)
            assert same == (site.layer in model.inert_layers(module, "last")), (module, site.layer)


def check_gradient(case, model, pictures):
    """Image tokens depend on the pixels differentiably, each picture on its own."""
    pixels = model.preprocess(pictures[:1]).to(model.device, model.dtype)
    pixels.requires_grad_(True)
    values = pixels if isinstance(pixels, torch.Tensor) else pixels.pixels
    torch.stack(list(model.embed_pixels(pixels, case.prompts[0]))).square().sum().backward()
    assert values.grad.abs().sum() > 0


def check_places(case, model, pictures):
    """The layer of GradCAM is about patches; weights of image tokens add up to 1 or to nothing."""
    module, patches = model.picture_layer()
    found = []
    with watch_outputs([module], found.append):
        model.embed_pictures(pictures[:1], case.prompts[0])
    assert patches(found[0]).dim() == 4 and len(patches(found[0])) == 1
    weights = model.patch_weights(pictures[:1], case.prompts[0])
    if model.grid() is not None:
        assert weights is None and model.patch_grid() == model.grid()
        return
    rows, columns = model.patch_grid()
    assert weights.shape == (1, model.n_image_tokens(pictures[0].size), rows * columns)
    sums = weights.sum(dim=-1)
    assert ((sums - 1).abs().lt(1e-5) | sums.eq(0)).all() and sums.sum() > 0


def check_directory(case, model, pictures, folder):
    """A saved model is loaded again, bit for bit, and passes its own check."""
    case.save(folder)
    again = type(model).load(folder, "cpu", torch.float32)
    again.check({m: sum(s.n_units for s in model.sites(m)) for m in MODULES if model.sites(m)})
    for ours, theirs in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    prompt = case.prompts[1]
    one, other = (
        m.final_states(m.encode(m.embed_pictures(pictures, prompt), prompt)) for m in (model, again)
    )
    assert torch.equal(one, other)


CHECKS = [
    check_image_tokens,
    check_layout,
    check_generation,
    check_beams,
    check_padding,
    check_decomposition,
    check_hooks,
    check_inert,
    check_gradient,
    check_places,
]
