"""Attribution of Schwettmann et al. 2023: scores, ranking, recording, soft prompts."""

import copy
import dataclasses
import runpy
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import IDS, build_network, n_hooks
from snakemake.iocontainers import InputFiles, OutputFiles

from mmneurons.artifacts.records import merge_means, merge_ranked_maps
from mmneurons.artifacts.tables import read_table, write_table
from mmneurons.artifacts.tensors import TensorFile, write_tensors
from mmneurons.methods.attribution import attribution, best_pairs
from mmneurons.models.captions import fill_prompt
from mmneurons.models.minigpt4 import MiniGPT4
from mmneurons.probe.attribution import AttributionSettings, Described, rank, record_attribution
from mmneurons.probe.hooks import replace
from mmneurons.probe.soft_prompts import PromptSettings, decode_prompts, nearest_tokens
from mmneurons.probe.target import ImageRecord, image_gradients, target_logits, target_probabilities

PROMPT = {
    "template": "[INST] <Img><ImageHere></Img> {instruction} [/INST] {prefix}",
    "instruction": "Describe this image in detail.",
    "prefix": "The image shows a",
}
TEXT = fill_prompt(PROMPT)
PREFIX = [IDS["red"], IDS["car"]]
SETTINGS = AttributionSettings(6, 12, 30, 9, PromptSettings(3, 4), seed=5)


@pytest.fixture(scope="module")
def precise(tokenizer):
    """A model in float64, for differences of logits."""
    return MiniGPT4(build_network(3).double(), tokenizer, "cpu")


def test_scores_are_finite_differences_of_the_logit(precise, pictures):
    encoded = precise.encode(precise.embed_pictures(pictures[:1]), TEXT, [PREFIX])
    target = [IDS["bear"]]
    record = image_gradients(precise, encoded, target, ["pre"])
    sites, rng = precise.sites("language"), np.random.default_rng(0)

    def logit(place, patch, unit, added):
        position = encoded.image[0, patch]

        def change(_site, tensor):
            moved = tensor.clone()
            moved[0, position, unit] += added
            return moved

        with torch.no_grad(), replace([sites[place]], "pre", change):
            return target_logits(precise, encoded, target, precise.final_states(encoded)).item()

    for place in range(len(sites)):
        for _ in range(4):
            patch, unit = int(rng.integers(16)), int(rng.integers(sites[0].n_units))
            step = 2e-2  # norms of the decoder are in float32, so a smaller one would drown
            slope = (logit(place, patch, unit, step) - logit(place, patch, unit, -step)) / 2 / step
            z = record.activations["pre"][place][0, patch, unit].item()
            g = attribution(record.activations["pre"][place], record.gradients["pre"][place])
            assert g[0, patch, unit].item() == pytest.approx(z * slope, rel=5e-3, abs=1e-5)
    assert all((gradient == 0).all() for gradient in record.gradients["pre"][-1])


def test_probabilities_are_those_of_the_whole_softmax(model, pictures):
    encoded = model.encode(model.embed_pictures(pictures[:2]), TEXT, [PREFIX, PREFIX[:1]])
    targets = [IDS["bear"], IDS["grass"]]
    record = image_gradients(model, encoded, targets, ["pre"], also=["act"])
    logits = model.logits(model.final_states(encoded)).detach().double()
    for row, n in enumerate((2, 1)):
        own = logits[row, encoded.prompt_end - 1 + n].exp()
        expected = (own[targets[row]] / own.sum()).item()
        assert record.probabilities[row].item() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(record.probabilities, target_probabilities(model, encoded, targets))
    for pre, act in zip(record.activations["pre"], record.activations["act"], strict=True):
        assert torch.allclose(torch.nn.functional.silu(pre), act, atol=1e-6)
    assert record.gradients.keys() == {"pre"}


def test_units_repeat_in_the_ranking_of_pairs():
    scores = torch.tensor([[[1.0, 5.0, 2.0], [4.0, 0.0, 5.0], [-1.0, -0.0, 0.0]]])
    best, units, patches = best_pairs(scores, 6)
    assert best.tolist() == [[5, 5, 4, 2, 1, 0]]
    assert list(zip(units[0].tolist(), patches[0].tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (1, 0),
        (0, 2),
        (0, 0),
        (1, 1),
    ]


@pytest.mark.parametrize("levels", [0, 3, 1000])
def test_the_ranking_is_that_of_all_pairs_sorted(levels):
    """Few levels make many ties, which go to the lower (layer, unit, patch)."""
    generator = torch.Generator().manual_seed(levels)
    rows, patches, units, n_layers = 3, 4, 7, 3
    z = [
        torch.randint(-levels, levels + 1, (rows, patches, units), generator=generator).float()
        for _ in range(n_layers)
    ]
    ones = [torch.ones_like(layer) for layer in z]
    best = rank(ImageRecord({"pre": z}, {"pre": ones}), 9, 9)
    for row in range(rows):
        every = [
            (-z[layer][row, patch, unit].item(), layer, unit, patch)
            for layer in range(n_layers)
            for unit in range(units)
            for patch in range(patches)
        ]
        of_units = [
            (min(score for score, *place, _ in every if place == [layer, unit]), layer, unit)
            for layer in range(n_layers)
            for unit in range(units)
        ]
        top = best.units
        found = zip(top.scores[row], top.layers[row], top.units[row], strict=True)
        assert [(-s.item(), a.item(), u.item()) for s, a, u in found] == sorted(of_units)[:9]
        pairs = [
            (-s.item(), top.layers[row, u].item(), top.units[row, u].item(), p.item())
            for s, u, p in zip(
                best.pair_scores[row], best.pair_units[row], best.pair_patches[row], strict=True
            )
        ]
        assert pairs == sorted(every)[:9]


def nouns(caption, token_ids, token_ends):
    """The second token is the noun, and the third one another; some captions have none."""
    if sum(token_ids) % 3 == 0:
        return [], [{"group": "", "reason": "no-noun", "detail": caption}]
    return [
        {"group": f"noun{position}", "position": position, "token": token_ids[position]}
        for position in (2, 1)
    ], []


def described(pictures):
    return [
        Described(f"p{n:02d}", f"p{n:02d}.jpg", picture, ["a thing"], "", n % 3 > 0, "ab"[n % 2])
        for n, picture in enumerate(pictures)
    ]


def record(model, pictures, batch=3, only=None, settings=SETTINGS):
    batches = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
    batches = batches if only is None else batches[only::2]
    return record_attribution(model, PROMPT, batches, nouns, settings, ["a", "b"])


@pytest.fixture(scope="module")
def recorded(model, pictures):
    return record(model, described(pictures[:8]))


def test_a_recording_has_what_a_plain_pass_gives(model, pictures, recorded):
    tables, tensors = recorded.tables(), recorded.tensors()
    captions = tables["captions"]
    left = tables["exclusions"]
    assert set(captions["picture_id"]) | set(left["sample_id"]) == {f"p{n:02d}" for n in range(8)}
    assert 2 <= len(captions) and (left["reason"] == "no-noun").all()
    sites = model.sites("language")
    for caption in captions.itertuples():
        # The first noun of the text, not the first of the list.
        assert caption.position == 1
        picture = pictures[int(caption.picture_id[1:])]
        encoded = model.encode(model.embed_pictures([picture]), TEXT, [list(caption.token_ids[:1])])
        plain = image_gradients(model, encoded, [caption.token], ["pre", "act"])
        assert caption.probability == pytest.approx(plain.probabilities.item(), rel=1e-4)
        scores = np.stack(
            [
                attribution(z, g)[0].numpy()
                for z, g in zip(plain.activations["pre"], plain.gradients["pre"], strict=True)
            ]
        )  # layers x patches x units
        pairs = tables["pairs"][tables["pairs"]["sample_id"] == caption.picture_id]
        assert pairs["rank"].tolist() == list(range(SETTINGS.pairs))
        own = scores[pairs["layer"], pairs["patch"], pairs["unit"]]
        assert pairs["score"].to_numpy() == pytest.approx(own, rel=1e-3, abs=1e-6)
        assert own == pytest.approx(np.sort(scores.ravel())[::-1][: SETTINGS.pairs], rel=1e-3)
        units = tables["ranking"][tables["ranking"]["sample_id"] == caption.picture_id]
        # Pictures that are not ablated keep as many units as pairs and maps need.
        kept = SETTINGS.units if caption.sampled else SETTINGS.pairs
        best = np.sort(scores.max(axis=1).ravel())[::-1][:kept]
        assert units["score"].to_numpy() == pytest.approx(best, rel=1e-3, abs=1e-6)
        maps = tables["maps"][tables["maps"]["picture_id"] == caption.picture_id]
        for _, rows in maps.groupby("kind"):
            for row in rows.itertuples():
                values = plain.activations["act"][row.layer][0, :, row.unit].numpy()
                assert tensors["maps"][row.row] == pytest.approx(values, rel=2e-3, abs=1e-3)
                assert row.value == tensors["maps"][row.row].max()
        own, random = (maps[maps["kind"] == kind] for kind in ("multimodal", "random"))
        assert own["unit"].tolist() == units["unit"].tolist()[: SETTINGS.map_units]
        assert sorted(own["layer"]) == sorted(random["layer"])
        taken = set(zip(own["layer"], own["unit"], strict=True))
        assert not taken & set(zip(random["layer"], random["unit"], strict=True))
    assert set(captions["sampled"]) == {True, False}
    assert recorded.facts["grid"] == [8, 2] and recorded.facts["layers"] == [0, 1, 2]
    assert n_hooks(model.network) == 0
    assert len(sites) == 3


def test_means_are_those_of_the_pictures_that_count(model, pictures, recorded):
    means = recorded.means()
    captions = recorded.tables()["captions"]
    expected = np.zeros((2, 120))
    for caption in captions.itertuples():
        number = int(caption.picture_id[1:])
        encoded = model.encode(model.embed_pictures([pictures[number]]), TEXT)
        plain = image_gradients(model, encoded, [5], ["act"])
        expected[number % 2] += torch.cat(
            [layer[0].mean(dim=0) for layer in plain.activations["act"]]
        ).numpy()
    assert means["sums"] == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert means["counts"].sum() == len(captions)


def test_shards_make_the_same_bytes(model, pictures, recorded, tmp_path):
    parts = {
        "one": [recorded],
        "two": [record(model, described(pictures[:8]), only=n) for n in (1, 0)],
    }
    for name, recordings in parts.items():
        folders = [tmp_path / name / str(n) for n in range(len(recordings))]
        for folder, recording in zip(folders, recordings, strict=True):
            folder.mkdir(parents=True)
            facts = copy.deepcopy(recording.facts)
            write_tensors(recording.tensors(), folder / "maps.safetensors", facts)
            write_table(recording.tables()["maps"], folder / "maps.parquet")
            write_tensors(recording.means(), folder / "means.safetensors")
        merge_ranked_maps(folders, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.parquet")
        merge_means([folder / "means.safetensors" for folder in folders], tmp_path / f"{name}.mean")
    for ending in ("safetensors", "parquet", "mean"):
        one, two = (tmp_path / f"{name}.{ending}" for name in parts)
        if ending == "safetensors":  # the order of pictures in a fact does not count
            assert TensorFile(one).facts == TensorFile(two).facts
            assert np.array_equal(TensorFile(one)["maps"], TensorFile(two)["maps"])
        else:
            assert one.read_bytes() == two.read_bytes()
    table = read_table(tmp_path / "two.parquet")
    assert table["row"].tolist() == list(range(len(table)))
    for name in ("captions", "pairs", "ranking", "prompt_tokens"):
        both = pd.concat([r.tables()[name] for r in parts["two"]], ignore_index=True)
        key = [c for c in ("picture_id", "sample_id", "kind", "rank", "patch") if c in both]
        sort = partial(pd.DataFrame.sort_values, by=key, ignore_index=True)
        pd.testing.assert_frame_equal(sort(both), sort(recorded.tables()[name]))


def test_the_rows_of_a_backward_pass_do_not_matter(model, pictures, recorded):
    """Three captions of a batch go through two passes, of two rows and of one."""
    numbers = recorded.tables()["captions"]["picture_id"].str[1:].astype(int)
    assert (numbers // 3).value_counts().max() == 3
    settings = dataclasses.replace(SETTINGS, gradient_rows=2)
    parted = record(model, described(pictures[:8]), settings=settings)
    for name, whole in recorded.tables().items():
        part = parted.tables()[name]
        if name == "maps":  # of a pass the multimodal ones come first
            key = ["picture_id", "kind", "rank"]
            part, whole = (t.sort_values(key, ignore_index=True) for t in (part, whole))
            values = [r.tensors()["maps"][t["row"]] for r, t in ((parted, part), (recorded, whole))]
            np.testing.assert_allclose(*values, rtol=2e-3, atol=1e-3)
            part, whole = (t.drop(columns="row") for t in (part, whole))
        pd.testing.assert_frame_equal(part, whole, rtol=1e-3, atol=1e-6)
    for name, values in parted.means().items():
        np.testing.assert_allclose(values, recorded.means()[name], rtol=1e-3, atol=1e-3)


def test_captions_are_merged_in_the_order_of_the_seed(model, pictures, tmp_path):
    """The merge script on two shards of pictures whose numbers are in another order."""
    chosen = described(pictures[:8])[::-1]
    folders = [tmp_path / str(n) for n in range(2)]
    for n, folder in enumerate(folders):
        folder.mkdir()
        recording = record(model, chosen, only=n)
        write_tensors(recording.tensors(), folder / "maps.safetensors", recording.facts)
        write_tensors(recording.means(), folder / "means.safetensors")
        for name, table in recording.tables().items():
            write_table(table, folder / f"{name}.parquet")
    ids = [picture.picture_id for picture in chosen]
    write_table(pd.DataFrame({"picture_id": ids}), tmp_path / "pictures.parquet")
    parquet = ("captions", "pairs", "ranking", "prompt_tokens", "exclusions", "map_rows")
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in parquet}
    outputs |= {name: str(tmp_path / f"{name}.safetensors") for name in ("maps", "means")}
    job = SimpleNamespace(
        input=InputFiles(fromdict={"shards": folders, "pictures": tmp_path / "pictures.parquet"}),
        output=OutputFiles(fromdict=outputs),
        log=[str(tmp_path / "log")],
    )
    streams = sys.stdout, sys.stderr
    try:
        runpy.run_path("scripts/merge_attribution.py", init_globals={"snakemake": job})
    finally:
        sys.stdout, sys.stderr = streams
    found = read_table(outputs["captions"])["picture_id"].tolist()
    assert found == [name for name in ids if name in found] and found != sorted(found)
    assert len(found) >= 3


def test_fewer_units_than_pairs_are_refused():
    with pytest.raises(ValueError, match="5 units are fewer"):
        AttributionSettings(6, 12, 5, 3, PromptSettings(3, 4), seed=5)


def test_nearest_tokens_have_the_largest_cosines():
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]])
    cosines, ids = nearest_tokens(torch.tensor([[0.1, 0.2], [-5.0, 1.0]]), table, 2)
    assert ids.tolist() == [[2, 1], [3, 1]]
    assert cosines[0].tolist() == pytest.approx([3 / np.sqrt(10), 2 / np.sqrt(5)])
    assert cosines[1].tolist() == pytest.approx([5 / np.sqrt(26), 1 / np.sqrt(26)])


@pytest.mark.parametrize("kind", ["isotropic", "matched"])
def test_prompts_hang_on_seed_and_picture_only(model, pictures, kind):
    tokens = model.embed_pictures(pictures[:3], TEXT)
    shown = [(f"p{n}", own) for n, own in enumerate(tokens)]
    settings = PromptSettings(3, 4, kind)
    rows = decode_prompts(model, shown, settings, 1)
    assert rows[8:16] == decode_prompts(model, shown[1:2], settings, 1)
    assert rows != decode_prompts(model, shown, settings, 2)
    assert [row["kind"] for row in rows[:8]] == ["image"] * 4 + ["random"] * 4
    table = model.decoder.get_input_embeddings().weight.detach()
    for row in rows:
        if row["kind"] == "image":
            own = tokens[int(row["picture_id"][1:])][row["patch"]]
            cosines = torch.nn.functional.cosine_similarity(own[None], table)
            assert row["cosines"] == pytest.approx(cosines.sort(descending=True)[0][:3].tolist())
            assert row["tokens"][0] == model.tokenizer.convert_ids_to_tokens(
                cosines.argmax().item()
            )


def test_matched_prompts_have_mean_and_spread_of_the_image_tokens(model):
    """With spread 0 every random prompt is the picture's mean."""
    same = torch.ones(16, 32) * torch.linspace(-1, 1, 32)
    settings = PromptSettings(3, 4, "matched")
    rows = decode_prompts(model, [("p", same)], settings, 1)
    assert {tuple(row["tokens"]) for row in rows} == {tuple(rows[0]["tokens"])}
