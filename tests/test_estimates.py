"""What a run will take: against sums by hand, published sizes, and the table of docs/models.md."""

import copy
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml
from published_checkpoints import layout

import estimate_costs
from mmneurons import estimates
from mmneurons.config import merge
from mmneurons.costs import read_rules
from mmneurons.estimates import Work, job_hours, long_jobs, table, work_of
from mmneurons.models.registry import ADAPTERS

REPOSITORY = Path(__file__).parents[1]


def read(name):
    return yaml.safe_load((REPOSITORY / name).read_text("utf-8"))


REGISTRIES = [read(f"resources/{name}.yaml") for name in ("models", "encoders", "datasets")]
MODELS, _, DATASETS = REGISTRIES
PRESETS = {
    path.stem: merge(read("config.yaml"), read(path)) for path in REPOSITORY.glob("presets/*.yaml")
}
PAPER = PRESETS["paper"]


def test_the_table_of_the_docs_is_the_one_that_is_printed():
    printed = table(PAPER, *REGISTRIES)
    assert printed in (REPOSITORY / "docs/models.md").read_text("utf-8")


def hours(config, stage="intervene"):
    found = Counter()
    for work in work_of(config, MODELS):
        if work.stage == stage:
            found[work.rule, work.model] += work.hours(MODELS[work.model]["parameters"], 2)
    return found


def test_hours_by_hand():
    # 1,000 prompts of 100 tokens, 10 generated after each, 4 side by side, 5e9 parameters.
    work = Work("caption", "r", "m", 1000, 100, 10, batch=4)
    reading = 1000 * 100 * 2 * 5e9 / (0.4 * 312e12)
    writing = 250 * 10 * 0.03  # 10 GB at 1.2 TB/s are 8 ms
    assert work.hours(5e9, 2) == pytest.approx((reading + writing) / 3600)
    # The weights of 100e9 parameters take 167 ms.
    slow = 250 * 10 * 200e9 / 1.2e12
    assert work.hours(100e9, 2) == pytest.approx((reading * 20 + slow) / 3600)
    back = Work("record", "r", "m", 1000, 100, backward=True)
    assert back.hours(5e9, 2) == pytest.approx(3 * reading / 3600)


def test_captions_under_noise_by_hand():
    """90 samples; 3 + 87 pictures, 3 levels; 10 draws of 3 methods at 2 sites and of 5 more at one.

    And 5 x 2 by chance at both sites.
    """
    works = {w.part: w for w in work_of(PAPER, MODELS) if w.rule == "caption_under_noise"}
    assert {part: work.sequences for part, work in works.items()} == {
        "act.main": 90 * 90 * 3 * (3 * 10 + 5 * 2),
        "post.main": 90 * 90 * 3 * (3 * 10 + 5 * 2),
        "act.more": 90 * 90 * 3 * 5 * 10,
    }
    assert {(w.prompt, w.generated, w.batch) for w in works.values()} == {(64 + 80, 32, 32)}


@pytest.mark.parametrize("preset", PRESETS)
def test_jobs_of_every_preset_end_within_half_of_what_they_first_ask_for(preset):
    assert long_jobs(PRESETS[preset], MODELS) == []
    for (rule, model, part), hours in job_hours(PRESETS[preset], MODELS).items():
        assert 2 * 60 * hours <= MODELS[model]["runtime"], (rule, model, part)


def test_jobs_that_are_too_long_are_named(tmp_path, capsys):
    whole = {"compute": {"noise_batch_size": 2}, "mmneuron": {"evaluate": {"batch_size": None}}}
    # As by hand: 40 or 50 captions of 90 pictures at 3 levels with 9 samples, two at a time.
    config = merge(PAPER, whole)
    found = job_hours(config, MODELS)
    reading, writing = 144 * 2 * 7.75e9 / (0.4 * 312e12), 32 * 0.03 / 2
    for part, draws in (("act.main", 40), ("post.main", 40), ("act.more", 50)):
        expected = 9 * 90 * 3 * draws * (reading + writing) / 3600
        key = ("caption_under_noise", "minigpt4-llama2-7b", part)
        assert found[key] == pytest.approx(expected, rel=1e-3)
    long = [line.partition(":")[0] for line in long_jobs(config, MODELS)]
    noise = "caption_under_noise with minigpt4-llama2-7b"
    assert long == [f"{noise} ({part})" for part in ("act.main", "post.main", "act.more")]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(whole))
    assert estimate_costs.main([str(REPOSITORY / "presets/paper.yaml")]) == 0
    assert "more shards" not in capsys.readouterr().out
    assert (
        estimate_costs.main([str(REPOSITORY / "presets/paper.yaml"), f"{tmp_path}/mine.yaml"]) == 0
    )
    said = capsys.readouterr().out
    assert f"{noise} (act.more): 17 hours a job, and 4.0 are asked for" in said


def test_rules_of_one_job_are_those_without_shards():
    rules = read_rules(REPOSITORY / "rules")
    estimated = {rule for rule, _, _ in job_hours(PAPER, MODELS)}
    assert {r for r in estimated if "{shard}" not in rules[r].text} == set(estimates.WHOLE)


def test_replies_have_a_batch_size_of_their_own_or_that_of_captions():
    def batches(config):
        return {w.batch for w in work_of(config, MODELS) if w.rule == "reply_to_questions"}

    assert batches(PAPER) == {2}
    assert batches(merge(PAPER, {"mmneuron": {"evaluate": {"batch_size": None}}})) == {32}


def test_captions_while_units_are_ablated_by_hand():
    """1,000 pictures; 8 numbers of the best, the interpretable and 5 random selections of units."""
    (work,) = [w for w in work_of(PAPER, MODELS) if w.rule == "ablate_units"]
    assert work.sequences == 1000 * 8 * (1 + 1 + 5)
    assert (work.model, work.prompt, work.generated) == ("limber-beit-gptj", 196 + 80, 32)


def test_captions_of_the_comparison_by_hand():
    """30 objects, 4 + 4 pictures; 5 methods, 5 draws of 6 kinds of chance; 3 levels, or zero."""
    works = [w for w in work_of(PAPER, MODELS) if w.rule == "intervene_comparison"]
    of = {work.model: work.sequences for work in works}
    edits = 30 * 4 * 2 * (5 + 30)
    assert of["minigpt4-llama2-7b"] == 30 * (4 + 4) * (5 + 30) * (3 * 1 + 1) + edits
    # Without levels of noise in its row a model's neurons are only set to zero.
    assert of["llava-llama-2-13b"] == 30 * (4 + 4) * (5 + 30) + edits


@pytest.mark.parametrize("family", ADAPTERS)
def test_every_family_has_its_image_tokens(family):
    assert estimates.IMAGE_TOKENS[family] > 0


def test_a_model_of_no_paper_is_estimated_as_well():
    other = copy.deepcopy(PAPER)
    other["pan"]["models"] = ["qwen2.5-vl-7b"]
    printed = table(other, *REGISTRIES)
    for stage in ("fetch", "record", "intervene"):
        assert f"| {stage} | `qwen2.5-vl-7b` |" in printed


def test_keys_and_values_by_hand():
    """The preset's own reckoning: 25 GB for the 13B model with 2 replies of 5 beams."""
    of = {w.model: w for w in work_of(PAPER, MODELS) if w.rule == "reply_to_questions"}
    larger = of["llava-v1.6-vicuna-13b"]
    assert larger.cached() == 2 * 5 * (2340 + 80 + 512)
    taken = larger.cached() * MODELS[larger.model]["kv"] * 2 / 1e9
    assert taken == pytest.approx(25, rel=0.05)
    (row,) = [
        r
        for r in table(PAPER, *REGISTRIES).splitlines()
        if "intervene | `llava-v1.6-vicuna-13b" in r
    ]
    assert row.split(" | ")[4] == f"{1.5 * 2 * 13.4 + taken:.0f}"
    greedy = copy.deepcopy(PAPER)
    greedy["mmneuron"]["evaluate"]["strategy"] = "greedy"
    of = {w.model: w for w in work_of(greedy, MODELS) if w.rule == "reply_to_questions"}
    assert of["llava-v1.6-vicuna-13b"].cached() == larger.cached() / 5
    assert all(w.cached() == 0 for w in work_of(PAPER, MODELS) if w.rule == "record_domains")


def kv_of(name, leaves_out="multiway.1"):
    """Rows of all projections to keys and values of a published layout, one copy of each."""
    return sum(
        shape[0]
        for key, (_, shape) in layout(name).items()
        if "self_attn" in key and ("k_proj" in key or "v_proj" in key)
        if not key.startswith(("vision", "text")) and leaves_out not in key and len(shape) == 2
    )


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ("minigpt4-llama2-7b", kv_of("llama-2-7b-chat-hf")),
        ("instructblip-vicuna-7b", kv_of("llama-2-7b-chat-hf")),  # Vicuna has Llama's sizes
        ("llava-v1.6-vicuna-7b", kv_of("llama-2-7b-chat-hf")),
        ("mplug-owl2-llama2-7b", kv_of("mplug-owl2-llama2-7b")),
        ("llava-llama-2-13b", kv_of("llava-llama-2-13b")),
        ("llava-v1.6-vicuna-13b", kv_of("llava-llama-2-13b")),
        ("qwen2.5-vl-7b", 28 * 2 * 4 * 128),  # layers, keys and values, heads, width
    ],
)
def test_keys_and_values_are_those_of_the_published_layouts(row, count):
    assert MODELS[row]["kv"] == count > 0


def test_pictures_on_the_disk_by_hand():
    taken = {
        row.split("`")[1]: float(row.split(" | ")[2])
        for row in table(PAPER, *REGISTRIES).splitlines()
        if "pictures of" in row
    }
    assert taken == {
        "coco-2017": 0.4,  # 30 objects of 60 pictures
        "coco-2017-val": 0.4,  # 1,000 and 12 times 100
        "sbu": 0.3,  # 1,400, of which the released code's choice takes 1,000
        **dict.fromkeys(("vqav2", "pmc-vqa", "doc-vqa"), 4.4),  # 22,000 of 0.2 MB
        "lingo-qa": 65.6 + 22,  # five frames of each
        "rsvqa-hr": 8.4,  # all that there are
    }
    assert DATASETS["rsvqa-hr"]["source"]["kept"]["megabytes"] == pytest.approx(
        512 * 512 * 3 / 1e6, abs=0.01
    )


def test_what_two_checkpoints_share_is_fetched_once():
    """CLIP: the tower of LLaVA, and CLIPScore's own encoder, which is linked."""
    other = copy.deepcopy(PAPER)

    def taken():
        rows = [row.split(" | ") for row in table(other, *REGISTRIES).splitlines()]
        return {row[1].strip("`"): row[2] for row in rows if row[0] == "| fetch"}

    fetched = taken()
    assert fetched["llava-llama-2-13b"] == f"{2 * (26.0 + 1.71):.0f}"
    assert fetched["clip-vit-large-patch14"] == "0"
    other["pan"]["models"] = other["comparison"]["models"] = ["mplug-owl2-llama2-7b"]
    assert "llava-llama-2-13b" not in taken() and taken()["clip-vit-large-patch14"] == "2"


def test_the_papers_own_pictures_are_as_many_as_are_asked_for():
    other = copy.deepcopy(PAPER)
    other["pan"]["variant"] = "paper"
    assert "| fetch | pictures of `sbu` | 0.2 |" in table(other, *REGISTRIES)


def test_more_samples_take_more_and_larger_batches_less():
    more = copy.deepcopy(PAPER)
    more["pan"]["weight_noise"]["samples"] *= 2
    more["mmneuron"]["questions"]["evaluate"] *= 3
    more["compute"]["noise_batch_size"] *= 10
    before, after = hours(PAPER), hours(more)
    assert before.keys() == after.keys()
    noise = ("caption_under_noise", "minigpt4-llama2-7b")
    assert after[noise] < before[noise] / 2  # reading takes the rest, whatever the batch
    weights = ("caption_under_weight_noise", "mplug-owl2-llama2-7b")
    assert after[weights] == pytest.approx(2 * before[weights])
    edits = ("edit_concepts", "mplug-owl2-llama2-7b")
    assert after[edits] == before[edits]


def test_the_budget_of_tokens_limits_the_questions():
    of = {w.model: w for w in work_of(PAPER, MODELS) if w.rule == "record_domains"}
    long = of["llava-v1.6-vicuna-7b"]
    assert long.sequences == pytest.approx(5 * (20e6 / (2340 + 80) + 100))
    assert of["instructblip-vicuna-7b"].sequences == 5 * (21000 + 100)


def test_the_embedded_world_takes_nothing():
    assert list(work_of(read("config.yaml"), MODELS)) == []


def elements(name, *left_out):
    return sum(
        math.prod(shape)
        for key, (_, shape) in layout(name).items()
        if not key.startswith(left_out) and "inv_freq" not in key and "position_ids" not in key
    )


def published(row, bytes_a_weight):
    (part,) = MODELS[row]["source"]["originals"].values()
    return part["gigabytes"] * 1e9 / bytes_a_weight


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (
            "minigpt4-llama2-7b",
            elements("llama-2-7b-chat-hf")
            + elements("eva_vit_g", "blocks.39.", "norm.", "head.")
            + elements("minigpt4_llama2_7b"),
        ),
        (
            "llava-llama-2-13b",
            elements("llava-llama-2-13b")
            + elements("clip-vit-large-patch14", "text_", "visual_projection", "logit_scale"),
        ),
        ("mplug-owl2-llama2-7b", elements("mplug-owl2-llama2-7b")),
        ("qwen2.5-vl-7b", published("qwen2.5-vl-7b", 2)),
        ("instructblip-vicuna-7b", published("instructblip-vicuna-7b", 4)),
        ("llava-v1.6-vicuna-7b", published("llava-v1.6-vicuna-7b", 2)),
        ("llava-v1.6-vicuna-13b", published("llava-v1.6-vicuna-13b", 2)),
    ],
)
def test_parameters_are_those_of_the_published_layouts_and_sizes(row, count):
    assert MODELS[row]["parameters"] == pytest.approx(count, rel=0.01)


def test_hours_are_printed_with_two_figures():
    shown = [estimates._hours(hours) for hours in (0.04, 0.26, 3.21, 35.4, 604, 1234)]
    assert shown == ["< 0.1", "0.26", "3.2", "35", "600", "1,200"]
