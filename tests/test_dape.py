"""Domain neurons: by hand, against a second implementation, and planted in realistic counts."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from mmneurons.artifacts.tables import read_facts, read_table, write_table
from mmneurons.methods.dape import (
    DAPE_COLUMNS,
    activation_probability,
    dape,
    parse_variant,
    same_layer_random,
    select_domain_neurons,
)

DOMAINS = ["common", "medical", "driving", "document", "remote"]


def select(counts, tokens, layers, groups, **settings):
    """One module, "m"."""
    inert = {"m": settings.pop("inert_layers", [])}
    return select_domain_neurons(
        {"m": np.asarray(counts)},
        {"m": np.asarray(tokens)},
        {"m": layers},
        groups,
        inert_layers=inert,
        **settings,
    )


def units_of(neurons, group):
    """(layer, unit) of a group's neurons, by rank."""
    own = neurons[neurons["group"] == group].sort_values("rank")
    return list(zip(own["layer"].tolist(), own["unit"].tolist(), strict=True))


# -------------------------------------------------------------------------------------- formulas


def test_probabilities_by_hand():
    counts = np.array([[0, 1, 4], [10, 5, 0]], dtype=np.uint32)
    p = activation_probability(counts, np.array([4, 10]))
    assert p.dtype == np.float64
    assert p.tolist() == [[0, 0.25, 1], [1, 0.5, 0]]
    # A group of which nothing was seen.
    assert activation_probability(np.zeros((2, 2), int), np.array([0, 3])).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(
    ("counts", "tokens"),
    [([[5]], [4]), ([[-1]], [4]), ([[1]], [0]), ([[1], [1]], [4]), ([[0]], [-1])],
)
def test_impossible_counts_are_refused(counts, tokens):
    with pytest.raises(ValueError, match="from 0 to the number|counts of 2 groups, tokens of 1"):
        activation_probability(np.array(counts), np.array(tokens))


def test_entropies_by_hand():
    """Two domains. Units: even, three to one, one domain only, never, always."""
    p = np.array([[0.2, 0.6, 0.0, 0.0, 1.0], [0.2, 0.2, 0.5, 0.0, 1.0]])
    ln = math.log
    released = [ln(2), ln(4) - 0.75 * ln(3), 0, 0, ln(2)]
    np.testing.assert_allclose(dape(p, "released"), released, rtol=1e-14, atol=1e-15)
    # As printed: - sum p log p of the probabilities themselves.
    paper = [0.4 * ln(5), 0.6 * ln(5 / 3) + 0.2 * ln(5), 0.5 * ln(2), 0, 0]
    np.testing.assert_allclose(dape(p, "paper"), paper, rtol=1e-14, atol=1e-15)
    for variant in ("released", "paper"):
        assert not np.signbit(dape(p, variant)).any()


def test_entropies_have_their_bounds():
    p = np.random.default_rng(0).random((5, 1000))
    released, paper = dape(p, "released"), dape(p, "paper")
    assert released.min() > 0
    assert released.max() < math.log(5)
    assert paper.max() < 5 / math.e
    # The scale of a unit does not matter for the normalised one.
    np.testing.assert_allclose(dape(p / 1000, "released"), released, rtol=1e-12)
    assert (dape(p / 1000, "paper") < 0.1).all()


def test_the_order_of_domains_does_not_change_an_entropy_by_a_single_bit():
    rng = np.random.default_rng(1)
    p = rng.random((5, 500)) * (rng.random((5, 500)) < 0.8)
    for variant in ("released", "paper"):
        for _ in range(5):
            again = dape(p[rng.permutation(5)], variant)
            assert np.array_equal(again, dape(p, variant))


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match="from 0 to 1"):
        dape(np.array([[0.5], [bad]]), "released")


def test_another_variant_is_refused():
    with pytest.raises(ValueError, match="'relased'"):
        dape(np.full((2, 1), 0.5), "relased")


# ------------------------------------------------------------------------------------ file names


@pytest.mark.parametrize(
    ("text", "variant", "share"),
    [
        ("released-1", "released", 0.01),
        ("released-0_5", "released", 0.005),
        ("paper-5", "paper", 0.05),
        ("paper-0_1", "paper", 0.001),
        ("released-12_25", "released", 0.1225),
        ("released-100", "released", 1.0),
    ],
)
def test_variants_of_file_names(text, variant, share):
    assert parse_variant(text) == (variant, share)


@pytest.mark.parametrize(
    "text", ["", "released", "released-", "released-0", "released-0_0", "released-101", "paper-1.5"]
    + ["paper--1", "printed-1", "released-1_", "released-_5", "released-1 ", "released-1\n"],
)  # fmt: skip
def test_other_names_are_refused(text):
    with pytest.raises(ValueError, match="such as 'released-1'"):
        parse_variant(text)


# -------------------------------------------------------------------------------------- by hand

# Two domains of 100 tokens, two layers of five units. All counts, sorted:
# 0 0 0 0 1 2 3 5 5 10 10 20 20 30 40 50 60 90 90 95.
BY_HAND = np.array(
    [
        #  layer 0                layer 1
        [50, 0, 90, 3, 10] + [60, 0, 20, 5, 1],
        [2, 40, 90, 0, 10] + [30, 0, 20, 5, 95],
    ]
)


def test_selection_by_hand():
    """Filter at 60 %: the 12th smallest is 0.2, which is not above itself, so L1.U2 is out.

    Left are, with p' in the domain where it is larger: L0.U0 (50/52), L0.U1 (1), L0.U2 (1/2),
    L1.U0 (2/3), L1.U4 (95/96). The three lowest entropies are those of L0.U1, L1.U4 and L0.U0.
    """
    neurons, facts = select(
        BY_HAND, [100, 100], [5, 5], ["a", "b"], share=0.3, percentile=60, variant="released"
    )
    assert facts["filter"] == facts["bar"] == {"m": 0.2}
    assert facts["n_units"] == {"m": 10}
    assert facts["n_wanted"] == facts["n_selected"] == {"m": 3}
    assert facts["domains_without"] == {"m": []}
    assert facts["rule"] == {
        "variant": "released",
        "share": 0.3,
        "percentile": 60,
        "inert": "keep",
    }
    assert list(neurons) == list(DAPE_COLUMNS)
    rows = neurons.drop(columns="score").to_numpy().tolist()
    assert rows == [
        ["", "a", "m", 0, 0, 0, 0.5, False],
        ["", "b", "m", 0, 1, 0, 0.4, False],
        ["", "b", "m", 1, 4, 1, 0.95, False],
    ]

    def entropy(*p):
        return -sum(q / sum(p) * math.log(q / sum(p)) for q in p)

    expected = [entropy(50, 2), 0, entropy(1, 95)]
    np.testing.assert_allclose(neurons["score"], expected, atol=1e-11)
    assert np.array_equal(neurons["score"], neurons["score"].round(12))


def test_a_neuron_may_be_in_several_domains():
    """Five candidates: L0.U2, at 0.9 in both, comes in last and belongs to both."""
    settings = {"percentile": 60, "variant": "released"}
    five, _ = select(BY_HAND, [100] * 2, [5, 5], ["a", "b"], share=0.5, **settings)
    assert units_of(five, "a") == [(0, 0), (1, 0), (0, 2)]
    assert units_of(five, "b") == [(0, 1), (1, 4), (1, 0), (0, 2)]
    # Five units, seven rows: sums over domains may exceed the share.
    assert len(five) == 7
    # No more than five are above the filter, whatever the share.
    all_of_them, facts = select(BY_HAND, [100] * 2, [5, 5], ["a", "b"], share=1, **settings)
    pd.testing.assert_frame_equal(all_of_them, five)
    assert facts["n_wanted"] == {"m": 10}
    assert facts["n_selected"] == {"m": 5}


def test_the_paper_as_printed_prefers_what_is_always_active():
    """Raw entropies of the candidates: L1.U4 .0951, L0.U2 .1896, L0.U1 .3665, L0.U0 .4248, ..."""
    settings = {"percentile": 60, "share": 0.2}
    paper, facts = select(BY_HAND, [100] * 2, [5, 5], ["a", "b"], variant="paper", **settings)
    assert units_of(paper, "a") == [(0, 2)]
    assert units_of(paper, "b") == [(1, 4), (0, 2)]
    expected = [-0.01 * math.log(0.01) - 0.95 * math.log(0.95), -2 * 0.9 * math.log(0.9)]
    own = paper[paper["group"] == "b"]
    np.testing.assert_allclose(own["score"], expected, atol=1e-11)
    released, other = select(BY_HAND, [100] * 2, [5, 5], ["a", "b"], **settings)
    assert units_of(released, "b") == [(0, 1), (1, 4)]
    # Only the entropy differs.
    assert facts["filter"] == other["filter"]


def test_equal_tokens_are_not_assumed():
    """Counts alone would say that unit 0 is specific to b; per token it is so to a."""
    neurons, facts = select([[30, 5], [40, 100]], [50, 1000], [2], ["a", "b"], share=0.5,
                            percentile=75)  # fmt: skip
    # p: a .6 .1, b .04 .1.
    assert units_of(neurons, "a") == [(0, 0)]
    assert facts["domains_without"] == {"m": ["b"]}
    assert neurons["probability"].tolist() == [0.6]


def test_ties_go_to_the_lower_layer_and_unit():
    """Ten equal units, each in one domain only, of which four are wanted."""
    counts = np.zeros((2, 40), int)
    places = [3, 8, 11, 19, 20, 25, 28, 31, 33, 38]
    counts[0, places[::2]] = 50
    counts[1, places[1::2]] = 50
    neurons, _ = select(counts, [100, 100], [10, 10, 20], ["a", "b"], share=0.1, percentile=80)
    assert units_of(neurons, "a") == [(0, 3), (1, 1)]
    assert units_of(neurons, "b") == [(0, 8), (1, 9)]
    assert neurons.groupby("group")["rank"].apply(list).to_dict() == {"a": [0, 1], "b": [0, 1]}


def test_what_is_equal_on_paper_is_a_tie():
    """Probabilities of 1 : 3 : 7; their entropies differ in the last bits."""
    tokens, n = np.array([300, 900, 2100]), 60
    counts = np.zeros((3, n), int)
    for unit in range(n):
        counts[:, unit] = tokens * np.roll([1, 3, 7], unit) // (30 if unit % 2 else 10)
    entropies = dape(activation_probability(counts, tokens), "released")
    assert len(set(entropies)) > 1
    assert np.ptp(entropies) < 1e-14
    neurons, _ = select(counts, tokens, [n], ["a", "b", "c"], share=0.2, percentile=0)
    chosen = sorted({unit for _, unit in zip(neurons["layer"], neurons["unit"], strict=True)})
    assert chosen == list(range(12))


# ------------------------------------------------------------------------ a second implementation


def released_code(counts, tokens, share, percentile, groups):
    """The steps that method descriptions of the released code name, in torch and in float64.

    A module's counts `layers x units x domains`. Returns list[domain][layer] of units, and the
    entropies with those of discarded units at infinity.
    """
    p = torch.from_numpy(counts).double() / torch.from_numpy(tokens).double()
    normed = torch.nn.functional.normalize(p, p=1, dim=-1)
    normed[torch.isnan(normed)] = 0
    entropy = torch.special.entr(normed).sum(dim=-1)
    flat = p.flatten()
    top_prob = flat.kthvalue(round(len(flat) * percentile / 100)).values
    entropy[~(p > top_prob).any(dim=-1)] = torch.inf
    places = entropy.flatten().topk(round(entropy.numel() * share), largest=False).indices
    bar = flat.kthvalue(round(len(flat) * percentile / 100)).values
    found = [[[] for _ in range(counts.shape[0])] for _ in range(groups)]
    for place in places.tolist():
        layer, unit = divmod(place, counts.shape[1])
        for domain in range(groups):
            if p[layer, unit, domain] > bar:
                found[domain][layer].append(unit)
    return found, entropy.flatten(), float(bar), places


def compared(rng, tokens, largest_share, layers, units, groups, share, percentile):
    """Random counts of a module, by both; returns what differs only by ties."""
    counts = np.floor(rng.random((layers, units, groups)) ** 3 * largest_share * tokens)
    counts[rng.random((layers, units)) < 0.05] = 0  # silent units
    counts = counts.astype(np.int64)
    names = [f"d{n}" for n in range(groups)]
    neurons, facts = select(
        counts.transpose(2, 0, 1).reshape(groups, -1),
        tokens,
        [units] * layers,
        names,
        share=share,
        percentile=percentile,
    )
    found, entropy, bar, places = released_code(counts, tokens, share, percentile, groups)
    assert facts["bar"]["m"] == bar
    theirs = {
        (name, layer, unit)
        for name, of_layers in zip(names, found, strict=True)
        for layer, own in enumerate(of_layers)
        for unit in own
    }
    ours = set(neurons[["group", "layer", "unit"]].itertuples(index=False, name=None))
    assert len(ours) == len(neurons)
    scores = neurons["score"].to_numpy()
    flat = neurons["layer"].to_numpy() * units + neurons["unit"].to_numpy()
    np.testing.assert_allclose(scores, entropy.numpy()[flat], atol=1e-11)
    # Both take the same entropies, whatever units have them.
    chosen = np.unique(flat)
    kept = entropy[places]
    kept = kept[torch.isfinite(kept)].sort().values.numpy()
    np.testing.assert_allclose(np.sort(entropy.numpy()[chosen]), kept, atol=1e-11)
    # Units below the highest of them are the same; at the highest, the first places are ours.
    limit = kept[-1] if len(kept) else -1
    for name, layer, unit in ours ^ theirs:
        assert abs(float(entropy[layer * units + unit]) - limit) < 1e-11, name
    at_limit = np.flatnonzero(np.abs(entropy.numpy() - limit) < 1e-11)
    taken = np.isin(at_limit, chosen)
    assert not (np.diff(taken.astype(int)) > 0).any()
    return ours ^ theirs


@pytest.mark.parametrize("seed", range(12))
def test_same_neurons_as_the_released_code(seed):
    """Tokens in the hundred thousands: no ties but those of units in one domain only."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(2, 6))
    tokens = rng.integers(100_000, 200_000, groups)
    share, percentile = rng.choice([0.01, 0.02, 0.05]), rng.choice([90, 95, 99])
    shape = (int(rng.integers(1, 6)), int(rng.integers(30, 400)))
    assert not compared(rng, tokens, 0.9, *shape, groups, share, percentile)


def test_same_neurons_as_the_released_code_but_for_ties():
    """Ten tokens: many units have the same entropy, and the released choice among them is open."""
    differ = 0
    for seed in range(20):
        rng = np.random.default_rng([3, seed])
        tokens = np.full(3, 10)
        differ += bool(compared(rng, tokens, 1.0, 4, 150, 3, 0.05, 80))
    assert differ > 0  # otherwise there was no tie to break


@pytest.mark.parametrize(
    ("layers", "units", "share", "selected"),
    [
        (1, 4096, 0.01, 41),
        (24, 4096, 0.01, 983),
        (32, 11008, 0.01, 3523),
        (12, 3072, 0.01, 369),
        (39, 6144, 0.01, 2396),
        (1, 4096, 0.05, 205),
        (1, 250, 0.01, 2),  # 2.5 and 3.5 go to the even neighbour
        (1, 350, 0.01, 4),
        (1, 40, 0.01, 0),
    ],
)
def test_shares_are_rounded_as_in_the_released_code(layers, units, share, selected):
    """The numbers of units of the paper's modules at 1 %."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 1000, (5, layers * units))
    _, facts = select(counts, np.full(5, 1000), [units] * layers, DOMAINS, share=share)
    assert facts["n_units"] == {"m": layers * units}
    assert facts["n_wanted"] == facts["n_selected"] == {"m": selected}


@pytest.mark.parametrize("n", [7, 10, 30, 50, 99, 1000])
def test_percentile_is_the_rounded_place_among_the_sorted(n):
    """0.95 x 10 = 9.5 goes to 10, 0.95 x 30 = 28.5 to 28, as round does."""
    values = np.random.default_rng(n).permutation(1000)[:n]
    _, facts = select(values[None], [1000], [n], ["a"], share=1)
    place = round(0.95 * n)
    assert facts["bar"] == {"m": sorted(values)[place - 1] / 1000}
    assert facts["n_selected"] == {"m": n - place}


# -------------------------------------------------------------------------------------- planted

LAYERS, UNITS, TOKENS = 6, 500, 20_000


def background(seed):
    """Counts of units whose probability is their own and varies a little between domains."""
    rng = np.random.default_rng(seed)
    own = rng.beta(1.2, 8, LAYERS * UNITS)
    p = np.clip(own * rng.lognormal(0, 0.15, (5, LAYERS * UNITS)), 0, 1)
    return rng, rng.binomial(TOKENS, p)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("domain", range(5))
def test_a_unit_that_fires_in_one_domain_only_is_found_there(seed, domain):
    rng, counts = background(seed)
    specific, everywhere, never, weak = 2 * UNITS + 17, 3 * UNITS + 4, 4 * UNITS, 5 * UNITS + 9
    counts[:, specific] = rng.binomial(TOKENS, 0.01, 5)
    counts[domain, specific] = rng.binomial(TOKENS, 0.6)
    counts[:, everywhere] = rng.binomial(TOKENS, 0.9, 5)
    counts[:, never] = 0
    # In one domain only, but at one of a hundred tokens: the filter is there for this one.
    counts[:, weak] = 0
    counts[domain, weak] = rng.binomial(TOKENS, 0.01)
    layers = [UNITS] * LAYERS
    neurons, facts = select(counts, np.full(5, TOKENS), layers, DOMAINS, share=0.01)
    groups_of = neurons.groupby(["layer", "unit"])["group"].apply(list).to_dict()
    assert groups_of[2, 17] == [DOMAINS[domain]]
    assert units_of(neurons, DOMAINS[domain])[0] == (2, 17)
    for planted in ((3, 4), (4, 0), (5, 9)):
        assert planted not in groups_of
    assert facts["n_selected"] == {"m": 30} == {"m": len(groups_of)}
    # As printed, the one that fires everywhere is the best of all, and the specific one is not.
    paper, _ = select(counts, np.full(5, TOKENS), layers, DOMAINS, share=0.01, variant="paper")
    assert all((3, 4) in units_of(paper, group) for group in DOMAINS)


def test_a_unit_of_two_domains_is_assigned_to_both():
    rng, counts = background(0)
    counts[:, 7] = rng.binomial(TOKENS, [0.7, 0.001, 0.001, 0.6, 0.001])
    neurons, _ = select(counts, np.full(5, TOKENS), [UNITS] * LAYERS, DOMAINS, share=0.01)
    own = neurons[(neurons["layer"] == 0) & (neurons["unit"] == 7)]
    assert own["group"].tolist() == ["common", "document"]
    assert own["probability"].tolist() == (counts[[0, 3], 7] / TOKENS).tolist()


def test_domains_without_a_neuron_are_reported(tmp_path):
    """Two domains in which next to nothing fires, one of them the last."""
    rng = np.random.default_rng(0)
    counts = rng.binomial(1000, 0.02, (5, 400))
    for domain in (0, 1, 3):
        own = slice(100 * domain, 100 * domain + 15)
        counts[:, own] = 1
        counts[domain, own] = 700
    neurons, facts = select(counts, np.full(5, 1000), [200, 200], DOMAINS, share=0.1)
    assert facts["domains_without"] == {"m": ["driving", "remote"]}
    assert set(neurons["group"]) == {"common", "medical", "document"}
    # A selection of nothing is a table too.
    nothing, facts = select(counts, np.full(5, 1000), [200, 200], DOMAINS, share=0.001)
    assert facts["domains_without"] == {"m": DOMAINS}
    assert len(nothing) == 0
    assert nothing.dtypes.equals(neurons.dtypes)
    write_table(nothing, tmp_path / "a.parquet", facts)
    assert read_facts(tmp_path / "a.parquet") == json.loads(json.dumps(facts))
    assert read_table(tmp_path / "a.parquet").columns.tolist() == list(DAPE_COLUMNS)


def test_a_domain_without_tokens_has_no_neuron():
    _, counts = background(0)
    tokens = np.array([TOKENS] * 4 + [0])
    counts[4] = 0
    neurons, facts = select(counts, tokens, [UNITS] * LAYERS, DOMAINS, share=0.01)
    assert facts["domains_without"] == {"m": ["remote"]}
    assert not neurons["score"].isna().any()


def test_silent_units_have_entropy_zero_and_are_never_selected():
    counts = np.zeros((3, 50), int)
    counts[:, :4] = [[9, 1, 1, 5], [1, 9, 1, 5], [1, 1, 9, 5]]
    neurons, facts = select(counts, [10] * 3, [50], ["a", "b", "c"], share=0.5, percentile=90)
    assert dape(counts / 10, "released")[4:].tolist() == [0] * 46
    assert facts["filter"] == {"m": 0.0}
    assert facts["n_selected"] == {"m": 4}
    assert set(neurons["unit"]) == {0, 1, 2, 3}


# ------------------------------------------------------------------------------ modules and layers


def test_modules_are_selected_each_for_itself():
    rng, counts = background(1)
    other = rng.binomial(TOKENS, 0.9, (5, 200))
    tokens = np.full(5, TOKENS)
    layers = {"vision": [UNITS] * LAYERS, "projector": [200]}
    both, facts = select_domain_neurons(
        {"vision": counts, "projector": other},
        {"vision": tokens, "projector": tokens},
        layers,
        DOMAINS,
        share=0.01,
    )
    alone, own_facts = select(counts, tokens, layers["vision"], DOMAINS, share=0.01)
    vision = both[both["module"] == "vision"].reset_index(drop=True)
    pd.testing.assert_frame_equal(vision, alone.assign(module="vision"))
    assert facts["bar"]["vision"] == own_facts["bar"]["m"]
    assert facts["bar"]["projector"] > 0.89
    assert facts["n_selected"] == {"vision": 30, "projector": 2}
    # The table is in the order of modules, then of domains, then of ranks.
    order = both["module"].map(list(layers).index) * 1_000_000
    order += both["group"].map(DOMAINS.index) * 10_000 + both["rank"]
    assert order.is_monotonic_increasing
    ranks = both.groupby(["module", "group"])["rank"].apply(list)
    assert all(found == list(range(len(found))) for found in ranks)


def test_rank_is_by_score_then_layer_then_unit():
    _, counts = background(2)
    neurons, _ = select(counts // 500, np.full(5, TOKENS // 500), [UNITS] * LAYERS, DOMAINS,
                        share=0.05)  # fmt: skip
    assert neurons["score"].duplicated().any()
    for _, own in neurons.groupby("group"):
        by = own.sort_values(["score", "layer", "unit"])
        assert by["rank"].tolist() == list(range(len(own)))


def test_layers_of_different_widths():
    counts = np.zeros((2, 12), int)
    counts[0, [3, 4, 11]] = 90  # the last of layer 0, the first of layer 1, the last of layer 2
    neurons, _ = select(counts, [100, 100], [4, 2, 6], ["a", "b"], share=0.25, percentile=80)
    assert units_of(neurons, "a") == [(0, 3), (1, 0), (2, 5)]


def test_inert_layers_are_marked_or_left_out():
    """The inert layer fires most and most specifically, so it shifts everything if it is kept."""
    rng, counts = background(3)
    last = slice(UNITS * (LAYERS - 1), None)
    counts[:, last] = 0
    counts[rng.integers(0, 5, UNITS), np.arange(UNITS) + UNITS * (LAYERS - 1)] = TOKENS - 1
    tokens, layers = np.full(5, TOKENS), [UNITS] * LAYERS
    settings = {"share": 0.01, "inert_layers": [LAYERS - 1]}
    kept, kept_facts = select(counts, tokens, layers, DOMAINS, **settings)
    assert kept["inert"].all()
    assert set(kept["layer"]) == {LAYERS - 1}
    assert kept_facts["n_units"] == {"m": UNITS * LAYERS}
    without, facts = select(counts, tokens, layers, DOMAINS, **settings, inert="exclude")
    assert facts["n_units"] == {"m": UNITS * (LAYERS - 1)}
    assert facts["n_selected"] == {"m": 25}
    assert facts["bar"]["m"] < kept_facts["bar"]["m"]
    assert facts["rule"]["inert"] == "exclude"
    assert not without["inert"].any()
    # As if the layer did not exist.
    shorter, _ = select(counts[:, : last.start], tokens, layers[:-1], DOMAINS, share=0.01)
    pd.testing.assert_frame_equal(without, shorter)


def test_an_inert_layer_in_between_does_not_shift_the_numbers_of_others():
    _, counts = background(4)
    tokens, layers = np.full(5, TOKENS), [UNITS] * LAYERS
    without, _ = select(
        counts, tokens, layers, DOMAINS, share=0.02, inert_layers=[0, 2], inert="exclude"
    )
    kept = [1, 3, 4, 5]
    rows = counts.reshape(5, LAYERS, UNITS)[:, kept].reshape(5, -1)
    expected, _ = select(rows, tokens, [UNITS] * 4, DOMAINS, share=0.02)
    expected["layer"] = expected["layer"].map(dict(enumerate(kept)))
    pd.testing.assert_frame_equal(without, expected)


def test_a_module_of_inert_layers_alone_gives_nothing():
    neurons, facts = select(
        BY_HAND, [100] * 2, [5, 5], ["a", "b"], share=0.5, inert_layers=[0, 1], inert="exclude"
    )
    assert len(neurons) == 0
    assert facts["n_units"] == facts["n_selected"] == {"m": 0}
    assert facts["bar"] == {"m": None}
    assert facts["domains_without"] == {"m": ["a", "b"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 0}, "share of 0"),
        ({"share": 1.5}, "share of 1.5"),
        ({"share": 0.1, "percentile": 101}, "percentile of 101"),
        ({"share": 0.1, "inert": "exlude"}, "'exlude'"),
        ({"share": 0.1, "variant": "printed"}, "'printed'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        select(BY_HAND, [100] * 2, [5, 5], ["a", "b"], **settings)


def test_counts_that_do_not_fit_are_refused():
    for layers, groups in (([5, 4], ["a", "b"]), ([5, 5], ["a", "b", "c"])):
        with pytest.raises(ValueError, match=r"counts of m have the shape \(2, 10\)"):
            select(BY_HAND, [100] * 2, layers, groups, share=0.1)
    with pytest.raises(ValueError, match="number of the group's tokens"):
        select(BY_HAND, [80, 100], [5, 5], ["a", "b"], share=0.1)


# --------------------------------------------------------------------------------- random control


def chosen():
    _, counts = background(5)
    tokens = np.full(5, TOKENS)
    layers = {"vision": [UNITS] * LAYERS, "projector": [30]}
    small = np.random.default_rng(0).integers(0, TOKENS, (5, 30))
    neurons, _ = select_domain_neurons(
        {"vision": counts, "projector": small}, dict.fromkeys(layers, tokens), layers, DOMAINS,
        share=0.05,
    )  # fmt: skip
    return neurons, layers


def pairs(table):
    return set(table[["layer", "unit"]].itertuples(index=False, name=None))


def test_random_units_match_the_layers_of_each_domain_and_module():
    neurons, layers = chosen()
    drawn = same_layer_random(neurons, layers, seed=3)
    assert drawn.columns.tolist() == ["group", "module", "layer", "unit"]
    keys = ["group", "module", "layer"]
    sizes = [table.groupby(keys).size().to_dict() for table in (neurons, drawn)]
    assert sizes[0] == sizes[1]
    assert not drawn.duplicated().any()
    for (_, module), own in drawn.groupby(["group", "module"]):
        assert own["unit"].between(0, layers[module][0] - 1).all()
    for (group, module), own in neurons.groupby(["group", "module"]):
        others = drawn[(drawn["group"] == group) & (drawn["module"] == module)]
        assert not pairs(own) & pairs(others)


def test_random_units_depend_on_names_alone():
    neurons, layers = chosen()
    drawn = same_layer_random(neurons, layers, seed=3)
    part = neurons[(neurons["group"] == "driving") & (neurons["module"] == "vision")]
    alone = same_layer_random(part.sample(frac=1, random_state=1), layers, seed=3)
    same = drawn[(drawn["group"] == "driving") & (drawn["module"] == "vision")]
    pd.testing.assert_frame_equal(alone, same.reset_index(drop=True))
    others = [same_layer_random(neurons, layers, 4), same_layer_random(neurons, layers, 3, 1)]
    for other in others:
        assert not other["unit"].equals(drawn["unit"])
    assert not others[0]["unit"].equals(others[1]["unit"])


def test_random_units_where_a_layer_is_nearly_used_up():
    neurons = pd.DataFrame({"group": "a", "module": "m", "layer": 1, "unit": [0, 1, 2, 4]})
    drawn = same_layer_random(neurons, {"m": [9, 6]}, seed=0)
    # Even then, the order of the rows does not matter.
    pd.testing.assert_frame_equal(same_layer_random(neurons[::-1], {"m": [9, 6]}, seed=0), drawn)
    assert len(pairs(drawn)) == 4
    assert {(1, 3), (1, 5)} < pairs(drawn)
    assert drawn["unit"].max() < 6


def test_random_units_of_no_neurons():
    neurons, layers = chosen()
    nothing = same_layer_random(neurons.iloc[:0], layers, seed=0)
    assert len(nothing) == 0
    assert nothing.columns.tolist() == ["group", "module", "layer", "unit"]
