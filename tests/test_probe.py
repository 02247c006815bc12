"""Recording against the second forward pass, pytorch-grad-cam, finite differences and numpy."""

import copy
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import IDS, VOCABULARY, build_network, n_hooks
from minigpt4_by_hand import ByHand
from torch import nn

from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.decode import top_tokens, unit_tokens
from mmneurons.probe.gradcam import gradcam_map, import_gradcam
from mmneurons.probe.hooks import record, replace, watch
from mmneurons.probe.recorded import selection_maxima
from mmneurons.probe.target import image_activations, image_gradients, target_logits
from mmneurons.probe.two_stage import Case, candidates, record_group

PROMPT = "[INST] <Img><ImageHere></Img> Describe [/INST] The image shows a"
KINDS = ["pre", "act", "post"]
N_LAYERS, N_UNITS, N_TOKENS = 3, 40, 16
PREFIXES = [["red"], [], ["old", "teddy"], ["an", "old"], ["red"]]
TARGETS = ["car", "bear", "bear", "clock", "banana"]


@pytest.fixture(scope="module")
def by_hand(model):
    return ByHand(model.network)


@pytest.fixture(scope="module")
def prefixes():
    return [[IDS[word] for word in words] for words in PREFIXES]


@pytest.fixture(scope="module")
def targets():
    return [IDS[word] for word in TARGETS]


@pytest.fixture(scope="module")
def cases(pictures, prefixes, targets):
    pairs = zip(pictures[:5], pictures[5:10], prefixes, targets, strict=True)
    return [Case(*parts) for parts in pairs]


@pytest.fixture(scope="module")
def encoded(model, pictures, prefixes):
    return model.encode(model.embed_pictures(pictures[:5]), PROMPT, prefixes)


@pytest.fixture(scope="module")
def expected(model, by_hand, pictures, prefixes, targets):
    """Of each case: activations and gradients at the image tokens, target logit; in float64."""
    return [
        reference(model, by_hand, picture, prefix, target)
        for picture, prefix, target in zip(pictures[:5], prefixes, targets, strict=True)
    ]


def embeddings(model, by_hand, picture, prefix):
    before, after = model.segments(PROMPT)
    image = by_hand.tokens(model.preprocess([picture])[0])
    return by_hand.embeddings(before, image, [*after, *prefix]), slice(len(before), -len(after))


def reference(model, by_hand, picture, prefix, target):
    values, gradients, logits = by_hand.with_gradients(
        embeddings(model, by_hand, picture, prefix)[0], target
    )
    before = len(model.segments(PROMPT)[0])
    at = slice(before, before + N_TOKENS)
    return {
        "values": {k: torch.stack(values[k])[:, at].numpy() for k in KINDS},
        "gradients": {k: torch.stack(gradients[k])[:, at].numpy() for k in KINDS},
        "logit": float(logits[-1, target].detach()),
    }


def close(got, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(got), expected, atol=tolerance * scale, rtol=tolerance)


# ---------------------------------------------------------------------------------------- hooks


def test_hooks_are_gone_after_the_block(model, encoded):
    before = n_hooks(model.network)
    clean = model.final_states(encoded)
    with record(model.sites("language"), KINDS):
        assert n_hooks(model.network) == before + 3 * N_LAYERS
        assert torch.equal(model.final_states(encoded), clean)
    with replace(model.sites("language"), "act", lambda site, tensor: tensor * 2):
        assert not torch.equal(model.final_states(encoded), clean)
    assert n_hooks(model.network) == before
    assert torch.equal(model.final_states(encoded), clean)


def test_hooks_are_gone_after_an_exception_of_the_body(model, encoded):
    before, clean = n_hooks(model.network), model.final_states(encoded)
    with (
        pytest.raises(KeyError),
        replace(model.sites("language"), "post", lambda site, tensor: tensor + 1),
        record(model.sites("language"), KINDS),
    ):
        raise KeyError("body")
    assert n_hooks(model.network) == before
    assert torch.equal(model.final_states(encoded), clean)


def test_hooks_are_gone_after_an_exception_of_the_observer(model, encoded):
    before, clean = n_hooks(model.network), model.final_states(encoded)

    def fail(site, kind, tensor):
        raise RuntimeError("observer")

    with (
        pytest.raises(RuntimeError, match="observer"),
        watch(model.sites("language")[1:], ["act"], fail),
    ):
        model.final_states(encoded)
    assert n_hooks(model.network) == before
    assert torch.equal(model.final_states(encoded), clean)


def test_hooks_set_before_a_failing_site_are_removed(model):
    before = n_hooks(model.network)
    broken = [model.sites("language")[0], object()]
    with pytest.raises(AttributeError), record(broken, ["act"]):
        pass
    assert n_hooks(model.network) == before


@pytest.mark.parametrize("kind", KINDS)
def test_replacement_goes_on_through_the_network(model, by_hand, pictures, kind):
    """Double one neuron of layer 1 at one position, here and in the second forward pass."""
    rows, _ = embeddings(model, by_hand, pictures[0], [])
    position, unit = 7, 11

    def double_by_hand(name, layer, values):
        if (name, layer) == (kind, 1):
            values = values.clone()
            values[position, unit] *= 2
        return values

    def double(site, tensor):
        tensor = tensor.clone()
        tensor[0, position, unit] *= 2
        return tensor

    encoded = model.encode(model.embed_pictures(pictures[:1]), PROMPT)
    clean = model.logits(model.final_states(encoded))[0]
    with replace(model.sites("language")[1:2], kind, double):
        logits = model.logits(model.final_states(encoded))[0]
    close(logits, by_hand.logits(rows, double_by_hand).numpy())
    assert (logits - clean).abs().max() > 1e-3


# ---------------------------------------------------------------------- activations, gradients


def test_recorded_activations_are_those_of_the_second_forward_pass(model, encoded, expected):
    passed = image_activations(model, encoded, KINDS).activations
    for kind in KINDS:
        got = torch.stack(passed[kind], dim=1)
        assert got.shape == (5, N_LAYERS, N_TOKENS, N_UNITS)
        close(got, np.stack([case["values"][kind] for case in expected]))
    # The kinds are three different things.
    assert (passed["pre"][0] - passed["act"][0]).abs().max() > 0.1
    assert (passed["post"][0] - passed["act"][0]).abs().max() > 0.1


def test_vision_sites_are_the_towers_ffns(model, pictures):
    with record(model.sites("vision"), KINDS) as passed:
        model.embed_pictures(pictures[:1])
    for block, pre, act, post in zip(
        model.network.visual_encoder.blocks, *(passed[k] for k in KINDS), strict=True
    ):
        assert pre.shape == (1, 65, 24)
        expected = nn.functional.gelu(pre)
        torch.testing.assert_close(act, expected)
        assert torch.equal(act, post)
        assert block.mlp.fc2.in_features == 24


def test_post_times_output_rows_is_the_output_of_the_ffn(model, encoded):
    outputs = []
    handles = [
        layer.mlp.register_forward_hook(lambda _m, _a, output: outputs.append(output))
        for layer in model.decoder.model.layers
    ]
    sites = model.sites("language")
    with record(sites, ["post", "act"]) as passed:
        model.final_states(encoded)
    for handle in handles:
        handle.remove()
    for site, post, act, output in zip(sites, passed["post"], passed["act"], outputs, strict=True):
        rows = site.output_rows()
        assert rows.shape == (N_UNITS, 32)
        by_unit = (post[..., None] * rows).sum(dim=-2)
        torch.testing.assert_close(by_unit, output, atol=1e-4, rtol=1e-4)
        assert not torch.allclose((act[..., None] * rows).sum(dim=-2), output, atol=1e-2)


def test_gradients_are_those_of_the_second_forward_pass(model, encoded, targets, expected):
    found = image_gradients(model, encoded, targets, KINDS)
    close(found.logits, [case["logit"] for case in expected])
    for kind in KINDS:
        close(
            torch.stack(found.activations[kind], dim=1),
            np.stack([case["values"][kind] for case in expected]),
        )
        close(
            torch.stack(found.gradients[kind], dim=1),
            np.stack([case["gradients"][kind] for case in expected]),
            1e-3,
        )
        assert all(not tensor.requires_grad for tensor in found.activations[kind])


def test_last_layer_has_exactly_no_gradient_at_image_positions(model, encoded, targets):
    found = image_gradients(model, encoded, targets, KINDS)
    assert model.inert_layers("language", "image") == {N_LAYERS - 1}
    for kind in KINDS:
        assert torch.equal(found.gradients[kind][-1], torch.zeros(5, N_TOKENS, N_UNITS))
        assert all((tensor != 0).float().mean() > 0.9 for tensor in found.gradients[kind][:-1])


def test_recording_leaves_no_gradient_on_the_weights(model, encoded, targets):
    before = n_hooks(model.network)
    image_gradients(model, encoded, targets, KINDS)
    assert n_hooks(model.network) == before
    assert all(weight.grad is None for weight in model.network.parameters())
    assert not encoded.embeds.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(model, by_hand, pictures, encoded, targets, kind):
    """A step of one neuron at one image position of case 2, in the float64 forward pass."""
    prefix = [IDS[word] for word in PREFIXES[2]]
    rows, at = embeddings(model, by_hand, pictures[2], prefix)
    found = image_gradients(model, encoded, targets, [kind]).gradients[kind]
    step = 1e-4

    def logit(layer, position, unit, change):
        def shift(name, number, values):
            if (name, number) == (kind, layer):
                values = values.clone()
                values[at.start + position, unit] += change
            return values

        return float(by_hand.logits(rows, shift)[-1, targets[2]])

    for layer, position, unit in [(0, 0, 0), (0, 15, 39), (1, 3, 17), (1, 8, 21)]:
        up, down = (logit(layer, position, unit, sign * step) for sign in (1, -1))
        expected = (up - down) / (2 * step)
        got = float(found[layer][2, position, unit])
        assert got == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("kind", ["act", "post"])
def test_gradients_are_those_of_pytorch_grad_cam(model, encoded, targets, kind):
    gradcam = import_gradcam()
    network = copy.deepcopy(model.network)
    taps = []
    for layer in network.llama_model.model.layers:
        if kind == "post":
            layer.mlp.down_proj = nn.Sequential(nn.Identity(), layer.mlp.down_proj)
        taps.append(layer.mlp.down_proj[0] if kind == "post" else layer.mlp.act_fn)
    ends = torch.tensor([encoded.prompt_end - 1 + n for n in encoded.lengths])
    rows = torch.arange(5)

    class Logits(nn.Module):
        def forward(self, embeds):
            return network.llama_model(
                inputs_embeds=embeds,
                attention_mask=encoded.mask,
                position_ids=encoded.position_ids,
                use_cache=False,
            ).logits

    watched = gradcam.activations_and_gradients.ActivationsAndGradients(Logits(), taps, None)
    logits = watched(encoded.embeds.clone().requires_grad_(True))
    logits[rows, ends, torch.tensor(targets)].sum().backward()
    found = image_gradients(model, encoded, targets, [kind])
    for layer in range(N_LAYERS):
        for ours, theirs in (
            (found.activations[kind], watched.activations),
            (found.gradients[kind], watched.gradients),
        ):
            torch.testing.assert_close(ours[layer], theirs[layer][rows[:, None], encoded.image])
    watched.release()


def test_target_logit_is_taken_where_the_target_is_predicted(model, encoded, targets):
    states = model.final_states(encoded)
    everywhere = model.logits(states)
    got = target_logits(model, encoded, targets, states)
    for row, target in enumerate(targets):
        place = encoded.prompt_end + len(PREFIXES[row]) - 1
        assert float(got[row]) == pytest.approx(float(everywhere[row, place, target]), abs=1e-5)


# -------------------------------------------------------------------------------- record_group


@pytest.fixture(scope="module")
def full(model, cases):
    return record_group(model, PROMPT, cases, ["act", "post"], 40, 16, full=True)


@pytest.fixture(scope="module")
def reduced(model, cases):
    return record_group(model, PROMPT, cases, ["act", "post"], 40, 16)


def test_names_and_shapes_of_a_recording(full, reduced):
    per_unit = (5, N_LAYERS, N_UNITS)
    shared = {"attribution": per_unit, "logit": (5,)}
    only = {True: dict(shared), False: dict(shared)}
    for site in ("act", "post"):
        k = len(reduced[f"{site}/map_units"])
        for shapes in only.values():
            shapes |= {
                f"{site}/contribution": per_unit,
                f"{site}/mean_square": (5, N_LAYERS),
                f"{site}/map_units": (k, 2),
                f"{site}/maps": (5, k, N_TOKENS),
            }
        only[False] |= {f"{site}/{name}": per_unit for name in ("difference", "gradact")}
        whole = (5, N_LAYERS, N_TOKENS, N_UNITS)
        only[True] |= {f"{site}/{n}": whole for n in ("original", "inpainted", "gradient")}
    assert {name: array.shape for name, array in reduced.items()} == only[False]
    assert {name: array.shape for name, array in full.items()} == only[True]
    types = {name.rsplit("/", 1)[-1]: str(array.dtype) for name, array in (reduced | full).items()}
    assert types.pop("maps") == "float16"
    assert types.pop("map_units") == "int32"
    assert set(types.values()) == {"float32"}


@pytest.mark.parametrize("site", ["act", "post"])
def test_full_recording_is_the_second_forward_pass(
    model, by_hand, pictures, prefixes, full, expected, site
):
    close(full[f"{site}/original"], np.stack([case["values"][site] for case in expected]))
    close(full[f"{site}/gradient"], np.stack([c["gradients"][site] for c in expected]), 1e-3)
    close(full["logit"], [case["logit"] for case in expected])
    inpainted = [
        reference(model, by_hand, picture, prefix, 0)["values"][site]
        for picture, prefix in zip(pictures[5:10], prefixes, strict=True)
    ]
    close(full[f"{site}/inpainted"], np.stack(inpainted))


@pytest.mark.parametrize("site", ["act", "post"])
def test_reduced_recording_is_numpy_on_the_full_one(full, reduced, site):
    original, gradient = full[f"{site}/original"], full[f"{site}/gradient"]
    difference = (original - full[f"{site}/inpainted"]).max(axis=2)
    np.testing.assert_array_equal(reduced[f"{site}/difference"], difference)
    np.testing.assert_array_equal(reduced[f"{site}/gradact"], (original * gradient).max(axis=2))
    close(reduced[f"{site}/mean_square"], (original.astype(np.float64) ** 2).mean(axis=(2, 3)))
    assert (difference < 0).any() or (difference > 0).all()


@pytest.mark.parametrize("site", ["act", "post"])
def test_contribution_is_mean_activation_times_projection_on_the_target(
    by_hand, full, reduced, targets, site
):
    w = by_hand.w
    for case, target in enumerate(targets):
        for layer in range(N_LAYERS):
            rows = w[f"llama_model.model.layers.{layer}.mlp.down_proj.weight"].T
            on_target = (rows @ w["llama_model.lm_head.weight"][target]).numpy()
            mean = full[f"{site}/original"][case, layer].astype(np.float64).mean(axis=0)
            close(reduced[f"{site}/contribution"][case, layer], mean * on_target)


def test_attribution_is_the_mean_of_pre_activation_times_gradient(reduced, expected):
    means = [(c["values"]["pre"] * c["gradients"]["pre"]).mean(axis=1) for c in expected]
    close(reduced["attribution"], np.stack(means), 1e-3)
    assert np.array_equal(reduced["attribution"][:, -1], np.zeros((5, N_UNITS)))


def test_full_and_reduced_lead_to_the_same_maxima_and_candidates(full, reduced):
    for site in ("act", "post"):
        for ours, theirs in zip(
            selection_maxima(full, site), selection_maxima(reduced, site), strict=True
        ):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    for name in set(full) & set(reduced):
        np.testing.assert_array_equal(full[name], reduced[name])


def test_inert_layer_never_exceeds_zero_in_stage_two(reduced):
    for site in ("act", "post"):
        gradact = reduced[f"{site}/gradact"]
        assert (gradact[:, -1] == 0).all()
        assert (gradact[:, :-1] != 0).all()
        assert (reduced[f"{site}/difference"][:, -1] > 0).any()


def test_an_unchanged_picture_differs_by_exactly_zero(model, pictures, targets):
    cases = [Case(pictures[i], pictures[i], [IDS["red"]] * i, targets[i]) for i in range(3)]
    for full in (False, True):
        arrays = record_group(model, PROMPT, cases, ["act", "post"], 4, 16, full=full)
        for site in ("act", "post"):
            difference, gradact = selection_maxima(arrays, site)
            assert np.array_equal(difference, np.zeros((3, N_LAYERS, N_UNITS)))
            assert gradact[:, 0].std() > 0


def test_batch_size_does_not_matter(model, cases, reduced):
    one = record_group(model, PROMPT, cases, ["act", "post"], 40, 1)
    for name in reduced:
        if name.endswith("map_units"):
            np.testing.assert_array_equal(one[name], reduced[name])
        elif name.endswith("maps"):
            np.testing.assert_allclose(one[name], reduced[name], atol=1e-5, rtol=2**-10)
        else:
            np.testing.assert_allclose(one[name], reduced[name], atol=1e-5, rtol=1e-5)


def test_equal_batches_give_equal_bytes(model, cases, reduced):
    again = record_group(model, PROMPT, cases, ["act", "post"], 40, 16)
    assert all(again[name].tobytes() == reduced[name].tobytes() for name in reduced)


@pytest.mark.parametrize("site", ["act", "post"])
def test_maps_are_the_activations_of_their_units(full, reduced, site):
    units, maps = reduced[f"{site}/map_units"], reduced[f"{site}/maps"]
    assert len(units) > 20
    for place, (layer, unit) in enumerate(units):
        activations = full[f"{site}/original"][:, layer, :, unit]
        np.testing.assert_array_equal(maps[:, place], activations.astype(np.float16))


def test_candidates_are_the_best_of_either_value():
    difference, gradact = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    difference[0, 1, 2], difference[1, 0, 1] = 5, 9  # in different samples
    gradact[1, 1, 0], gradact[0, 1, 2] = 7, 6
    assert candidates(difference, gradact, 4).tolist() == [[0, 1], [1, 0], [1, 2]]
    assert candidates(difference, gradact, 2).tolist() == [[0, 1], [1, 0]]
    # Equal values: the lower (layer, unit) first.
    assert candidates(np.ones((1, 2, 3)), np.ones((1, 2, 3)), 8).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
    ]
    assert len(candidates(difference, gradact, 1000)) == 6


# ------------------------------------------------------------------------------------- decoding


def test_top_tokens_are_those_of_the_full_softmax(model, by_hand):
    w = by_hand.w
    rows = (
        w["llama_model.model.layers.1.mlp.down_proj.weight"].T @ w["llama_model.lm_head.weight"].T
    )
    exp = np.exp(rows.numpy() - rows.numpy().max(axis=1, keepdims=True))
    probabilities = exp / exp.sum(axis=1, keepdims=True)
    units = [3, 0, 39]
    texts, values = top_tokens(model, 1, torch.tensor(units), 5)
    for text, value, unit in zip(texts, values.numpy(), units, strict=True):
        best = np.argsort(-probabilities[unit])[:5]
        assert text == [VOCABULARY[token] for token in best]
        close(value, probabilities[unit][best])


def test_unit_tokens_has_every_unit_once(model):
    lists = [np.array([[0, 1], [2, 5]], np.int32), np.array([[2, 5], [0, 0]], np.int32)]
    rows = unit_tokens(model, "car", lists, 3)
    assert [(row["group"], row["layer"], row["unit"]) for row in rows] == [
        ("car", 0, 0),
        ("car", 0, 1),
        ("car", 2, 5),
    ]
    assert rows[2]["tokens"] == top_tokens(model, 2, torch.tensor([5]), 3)[0][0]
    assert rows[2]["probabilities"] == sorted(rows[2]["probabilities"], reverse=True)


# -------------------------------------------------------------------------------------- GradCAM


def test_gradcam_map_of_a_word(model, pictures):
    before, clean = n_hooks(model.network), model.embed_pictures(pictures[:1])
    maps = [gradcam_map(model, PROMPT, pictures[0], [], IDS[w]) for w in ("car", "bear", "clock")]
    for found in maps:
        assert found.shape == (32, 32)
        assert found.min() >= 0
        assert found.max() <= 1
    assert max(found.max() for found in maps) > 0.9
    assert not np.allclose(maps[0], maps[1])
    assert not np.allclose(maps[0], gradcam_map(model, PROMPT, pictures[1], [], IDS["car"]))
    assert n_hooks(model.network) == before
    assert torch.equal(model.embed_pictures(pictures[:1]), clean)
    assert all(weight.grad is None for weight in model.network.parameters())


def test_gradcam_map_by_hand(model, pictures):
    """ReLU of the channels weighted by their mean gradient, scaled to 0..1 (eq. 1 and 2)."""
    picture, target = pictures[0], IDS["bear"]
    adapter = MiniGPT4(build_network(0), model.tokenizer, "cpu")
    kept = []
    adapter.network.visual_encoder.blocks[-1].norm1.register_forward_hook(
        lambda _module, _args, output: kept.append(output)
    )
    pixels = adapter.preprocess([picture]).requires_grad_(True)
    encoded = adapter.encode(adapter.embed_pixels(pixels), PROMPT)
    logit = adapter.logits(adapter.final_states(encoded))[0, -1, target]
    (gradient,) = torch.autograd.grad(logit, kept[0])
    channels = kept[0].detach()[0, 1:].view(8, 8, 16)
    weighted = (channels * gradient[0, 1:].mean(dim=0)).sum(dim=-1).clamp(min=0).numpy()
    expected = (weighted - weighted.min()) / (weighted.max() - weighted.min())
    found = gradcam_map(model, PROMPT, picture, [], target)
    # Bilinear upscaling by four: the mean of each 4 x 4 block follows the coarse map.
    coarse = found.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), expected.ravel())[0, 1] > 0.9
    peak = np.unravel_index(found.argmax(), found.shape)
    assert expected[peak[0] // 4, peak[1] // 4] == 1


def test_gradcam_leaves_no_torchvision_behind(model):
    from transformers.utils import is_torchvision_available

    installed = find_spec("torchvision") is not None if "torchvision" not in sys.modules else None
    assert import_gradcam().__name__ == "pytorch_grad_cam"
    if installed is False:
        assert not [name for name in sys.modules if name.split(".")[0] == "torchvision"]
        assert not is_torchvision_available()
    assert hasattr(import_gradcam(), "GradCAM")
