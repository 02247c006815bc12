"""The data of the neuron browser: what is shown, and that it is what the tables say."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import browser_world as world
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmneurons.browser import pan, two_stage
from mmneurons.browser.compare import layer_counts, overlaps, unit_counts
from mmneurons.browser.domains import domains_part
from mmneurons.browser.parts import NEURON, SHORT
from mmneurons.browser.pictures import Pictures, best_at_patches, packed, packed_places, scale
from mmneurons.browser.run import language_layers, of_model
from mmneurons.browser.site import CHUNK, STATIC, plain, shown_neurons, write_site

REPOSITORY = Path(__file__).parents[1]


def read_chunk(path):
    """The data of a chunk, which has to be one call in ASCII."""
    text = path.read_bytes().decode("ascii")
    name, data = re.fullmatch(r"mmneurons\((\"[^\"]+\"),(.*)\);\n", text, re.DOTALL).groups()
    assert json.loads(name) == path.stem
    return json.loads(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The parts, and all chunks of the site by name."""
    folder = tmp_path_factory.mktemp("browser")
    parts, tokens = world.parts(folder)
    write_site(folder / "site", "<run>", parts, tokens, notes=["a & b"])
    chunks = {path.stem: read_chunk(path) for path in (folder / "site" / "data").iterdir()}
    return folder, parts, tokens, chunks


def neuron(chunks, model, where):
    """What the page of a neuron (module, layer, unit) shows; its number."""
    own = chunks["index"]["models"][model]
    names = [module["name"] for module in own["modules"]]
    rows = chunks[f"rows{model}"]["neurons"]
    found = list(zip(rows["module"], rows["layer"], rows["unit"], strict=True))
    place = found.index((names.index(where[0]), *where[1:]))
    return chunks[f"neurons{model}-{place // CHUNK}"][place % CHUNK], place


# --------------------------------------------------------------------------------- what is shown


def test_neurons_of_the_best_ranks_are_shown_and_random_ones_never():
    rows = [("language", 0, 5, 3), ("language", 0, 4, 0), ("vision", 1, 1, 1), ("vision", 1, 2, -1)]
    rows += [("language", 0, 5, 1), ("language", 2, 9, 1)]
    found = pd.DataFrame(rows, columns=["module", "layer", "unit", "rank"])
    assert shown_neurons(found, 9) == [
        ("language", 0, 4),
        ("language", 0, 5),
        ("language", 2, 9),
        ("vision", 1, 1),
    ]
    # Of equal ranks that of more samples comes first, then the order of names and numbers.
    assert shown_neurons(found, 2) == [("language", 0, 4), ("language", 0, 5)]
    assert shown_neurons(found, 3)[-1] == ("language", 2, 9)


def test_neurons_of_which_most_was_recorded_come_first():
    rows = [("language", 0, unit, unit) for unit in range(6)]
    found = pd.DataFrame(rows, columns=["module", "layer", "unit", "rank"])
    known = {("language", 0, 5): 2, ("language", 0, 3): 1, ("language", 0, 4): 1}
    chosen = [[unit for _, _, unit in shown_neurons(found, n, known)] for n in range(1, 6)]
    assert chosen == [[5], [3, 5], [3, 4, 5], [0, 3, 4, 5], [0, 1, 3, 4, 5]]


def test_where_pages_are_few_they_have_maps_and_effects(made, tmp_path):
    _, parts, tokens, _ = made
    write_site(tmp_path, "run", [parts[1]], tokens, neurons=12)
    details = read_chunk(tmp_path / "data" / "neurons0-0.js")
    assert len(details) == 12 < read_chunk(tmp_path / "data" / "index.js")["models"][0]["found"]
    for own in details:
        assert own["effects"] and all(p["map"] for p in own["parts"][0]["pictures"])
        assert own["parts"][0]["pictures"]


def test_rows_are_those_of_the_tables(made):
    _, parts, _, chunks = made
    models = [model["name"] for model in chunks["index"]["models"]]
    methods = [method["key"] for method in chunks["index"]["methods"]]
    for number, model in enumerate(models):
        rows = chunks[f"rows{number}"]
        modules = [own["name"] for own in chunks["index"]["models"][number]["modules"]]
        where = [
            (modules[m], layer, unit)
            for m, layer, unit in zip(
                *(rows["neurons"][k] for k in ("module", "layer", "unit")), strict=True
            )
        ]
        said = {
            (*where[n], methods[m], rows["groups"][g]): (rank, samples)
            for n, m, g, rank, samples in zip(
                *(rows[k] for k in ("neuron", "method", "group", "rank", "samples")),
                strict=True,
            )
        }
        expected = {}
        for part in (part for part in parts if part.model == model):
            found = part.found
            if "seed" in found:  # of random neurons the first selection
                found = found[found["seed"].isna() | (found["seed"] == 0)]
            shown = found[[w in where for w in found[NEURON].itertuples(index=False, name=None)]]
            for key, own in shown.groupby(["module", "layer", "unit", "method", "group"]):
                rank = int(own["rank"].min())
                expected[key] = (rank + 1 if rank >= 0 else None, own["sample_id"].nunique())
        assert said == expected and len(said) > 30


def test_only_the_best_neurons_get_a_page_and_links_lead_to_those(made, tmp_path):
    _, parts, tokens, _ = made
    write_site(tmp_path, "run", parts, tokens, neurons=7, pictures=2)
    rows = read_chunk(tmp_path / "data" / "rows0.js")
    assert len(rows["neurons"]["unit"]) == 7 and max(rows["neuron"]) == 6
    index = read_chunk(tmp_path / "data" / "index.js")
    assert index["models"][0]["neurons"] == 7 < index["models"][0]["found"]
    for path in (tmp_path / "data").glob("pictures?.js"):
        for views in read_chunk(path):
            for view in views:
                listed = [e[0] for s in view["samples"] for _, own in s["found"] for e in own]
                most = 7 if view["model"] == 0 else index["models"][1]["neurons"]
                assert all(-1 <= place < most for place in listed)
                if view["patches"]:
                    assert max(view["patches"]["neurons"]) < most
    details = read_chunk(tmp_path / "data" / "neurons1-0.js")
    assert max(len(p["pictures"]) for d in details for p in d["parts"]) == 2


# ------------------------------------------------------------------------------- a neuron's page


def test_maps_of_a_neuron_have_one_scale_and_its_largest_values_come_first(made):
    _, parts, _, chunks = made
    part = parts[0]
    seen = 0
    for sample_maps in part.maps.values():
        for layer, unit in sample_maps.neurons:
            where = ("language", layer, unit)
            own, _ = neuron(chunks, 0, where)
            (active,) = own["parts"]
            values = {
                sample: maps.values[list(maps.neurons).index((layer, unit))]
                for sample, maps in part.maps.items()
                if (layer, unit) in list(maps.neurons)
            }
            tops = sorted((float(v.max()) for v in values.values()), reverse=True)[:8]
            shown = [picture["value"] for picture in active["pictures"]]
            np.testing.assert_allclose(shown, tops, rtol=1e-4)
            low, high = active["scale"]
            best = max(values.values(), key=lambda v: v.max())
            found = np.frombuffer(base64.b64decode(active["pictures"][0]["map"]), np.uint8)
            np.testing.assert_allclose(
                low + found / 255 * (high - low), best, atol=(high - low) / 255
            )
            assert max(max(base64.b64decode(p["map"])) for p in active["pictures"]) == 255
            (share,) = active["shares"]
            everywhere = np.concatenate(list(values.values())) > 0
            assert share[:2] == ["image tokens", pytest.approx(everywhere.mean(), rel=1e-4)]
            seen += 1
        break
    assert seen > 5


def test_pictures_without_a_map_are_those_that_a_neuron_was_selected_for(made):
    _, parts, _, chunks = made
    part = parts[1]
    picture = {s: number for number, v in enumerate(part.views) for s in v.samples}
    first = next(n for n, row in enumerate(chunks["pictures"]) if row[0] == part.views[0].picture)
    methods = [method["key"] for method in chunks["index"]["methods"]]
    mapped = {("language", *unit) for maps in part.maps.values() for unit in maps.neurons}
    bare = both = 0
    for where, rows in part.found.groupby(NEURON):
        detail, _ = neuron(chunks, 1, where)
        active = next(own for own in detail["parts"] if own["paper"] == "pan")
        own = rows.assign(picture=[first + picture[sample] for sample in rows["sample_id"]])
        own = own.sort_values(["rank", "sample_id", "method"]).drop_duplicates("picture")
        shown = [tile["picture"] for tile in active["pictures"]]
        rest = own[~own["picture"].isin(shown)]
        assert active["n_selected"] == len(rest)
        said = [
            (tile["picture"], methods[tile["method"]], tile["rank"] - 1, tile["group"])
            for tile in active["selected"]
        ]
        columns = ["picture", "method", "rank", "group"]
        assert said == list(rest[columns].itertuples(index=False, name=None))[: 8 - len(shown)]
        assert bool(shown) == (where in mapped) and active["mapped"] == len(shown)
        assert shown or said
        bare, both = bare + (not shown), both + bool(shown and said)
    assert bare > 5 and both > 5


def test_effects_stand_beside_those_of_random_neurons(made):
    _, parts, _, chunks = made
    part = parts[0]
    own = part.found[(part.found["method"] == "two_stage/auto") & (part.found["rank"] == 0)].iloc[0]
    detail, _ = neuron(chunks, 0, ("language", own["layer"], own["unit"]))
    methods = [method["key"] for method in chunks["index"]["methods"]]
    by_measure = {e[2]: e for e in detail["effects"] if methods[e[0]] == "two_stage/auto"}
    lost = next(e for what, e in by_measure.items() if "no longer name the object" in what)
    # Level 2 of two silences the object, no random neurons do; two seeds, levels and draws.
    assert (lost[3], lost[5]) == (0.5, 0.0)
    assert lost[4] == 2 * lost[7] and lost[6] == 4 * lost[7]
    kept = next(e for what, e in by_measure.items() if "other pictures" in what)
    assert (kept[3], kept[5]) == (1.0, 1.0)


def test_effects_on_weights_are_those_of_the_neurons_that_were_changed(made):
    _, parts, _, chunks = made
    part = parts[1]
    own = part.found[part.found["method"] == "contribution/plain"]
    own = own[own["key"].isin(set(part.effects["key"]))]
    names = list(zip(own["layer"], own["unit"], strict=True))
    changed = {name for name, rank in zip(names, own["rank"], strict=True) if rank < 5}
    others = set(names) - changed
    assert len(changed) > 10 and len(others) > 10
    methods = [method["key"] for method in chunks["index"]["methods"]]
    for name in changed | others:
        detail, _ = neuron(chunks, 1, ("language", *name))
        found = [e for e in detail["effects"] if methods[e[0]] == "contribution/plain"]
        expected = {(1.0, 0.0)} if name in changed else set()
        assert {(e[3], e[5]) for e in found} == expected


def test_a_domain_neuron_has_counts_pictures_and_its_modules_effect(made):
    _, _, _, chunks = made
    detail, _ = neuron(chunks, 1, ("vision", 1, 3))
    assert detail["tokens"] is None
    (active,) = detail["parts"]
    assert active["paper"] == "mmneuron" and "records no map" in active["why"]
    assert [p["value"] for p in active["pictures"]] == [1.0, 1.0, 1.0]
    assert {p["group"] for p in active["pictures"]} == {"medical"}
    assert {p["map"] for p in active["pictures"]} == {None}
    assert {what: share for what, share, _ in active["shares"]} == {"common": 0, "medical": 1}
    assert {(e[3], e[5]) for e in detail["effects"]} == {(0.4, 0.85)}
    assert {e[1] for e in detail["effects"]} == {"medical"}
    ((_, rank, group, _, n, of, score, _),) = [r for r in detail["ranks"] if r[4]]
    assert (rank, group, n, of, score) == (1, "medical", 1, 2, 0.1)


def test_what_was_recorded_by_domain_only_names_no_picture(tmp_path):
    paths = world.domains(tmp_path, record="groups")
    roots = {domain: str(tmp_path / domain) for domain in world.DOMAINS}
    part = domains_part(paths, "two", "Two", dict.fromkeys(world.DOMAINS, "data"), roots, 2)
    write_site(tmp_path / "site", "run", [part], {})
    found = read_chunk(tmp_path / "site" / "data" / "neurons0-0.js")
    assert all(not own["parts"][0]["pictures"] for own in found)
    assert all("recorded by itself" in own["parts"][0]["why"] for own in found)
    assert all(own["tokens"] is None for own in found)


def test_a_method_that_does_not_have_a_neuron_is_named_with_what_it_recorded(made):
    _, parts, _, chunks = made
    methods = [method["key"] for method in chunks["index"]["methods"]]
    details = [own for number in range(3) for own in chunks[f"neurons1-{number}"]]
    never = [r for own in details for r in own["ranks"] if r[4] == 0]
    assert never and all(r[1] is None and r[7] == 10 for r in never if "plain" in methods[r[0]])
    for own in details:
        assert len({r[0] for r in own["ranks"]}) == len(own["ranks"])


def test_nothing_found_and_nothing_tested_makes_a_site_all_the_same(made, tmp_path):
    _, parts, tokens, _ = made
    empty = [
        replace(part, found=part.found.iloc[:0], effects=part.effects.iloc[:0]) for part in parts
    ]
    write_site(tmp_path / "none", "run", empty, tokens)
    index = read_chunk(tmp_path / "none" / "data" / "index.js")
    assert [model["neurons"] for model in index["models"]] == [0, 0]
    untested = [replace(part, effects=part.effects.iloc[:0]) for part in parts]
    write_site(tmp_path / "untested", "run", untested, tokens)
    details = read_chunk(tmp_path / "untested" / "data" / "neurons0-0.js")
    assert details and all(own["effects"] == [] for own in details)


# ------------------------------------------------------------------------------ a picture's page


def test_words_of_captions_lead_to_their_samples(made):
    _, _, _, chunks = made
    views = [view for views in chunks["pictures0"] for view in views]
    captions = [view for view in views if view["paper"] == "pan"]
    assert len(captions) == 5
    for view in captions:
        marked = {piece: view["samples"][n]["group"] for piece, n in view["text"] if n is not None}
        assert len(marked) == 2 and all(piece == group for piece, group in marked.items())
        assert "".join(piece for piece, _ in view["text"]).startswith(world.PREFIX)
    said = next(view for view in views if view["paper"] == "two_stage")
    assert [piece for piece, n in said["text"] if n is not None] == ["bear"]
    assert len(said["others"]) == 1 and "nothing" in said["others"][0]["text"]
    question = next(view for view in views if ["used to", "test neurons"] in view["details"])
    assert sum(name.startswith("reply without random") for name, _ in question["details"]) == 3


def test_the_list_of_pictures_has_the_words_of_every_model(tmp_path):
    write_site(tmp_path, "run", *world.two_captions(tmp_path))
    listed = read_chunk(tmp_path / "data" / "pictures.js")
    assert len(listed) == 5
    for _, _, paper, views in [row[1:] for row in listed]:
        assert paper == "pan" and [model for model, _, _ in views] == [0, 1]
        for (_, text, groups), own, other in zip(
            views, ("dog", "cat"), ("cat", "dog"), strict=True
        ):
            assert own in text and own in groups and other not in text + "".join(groups)


def test_overlapping_concepts_are_marked_once():
    concepts = pd.DataFrame(
        [("s-dog", 4, 7), ("s-og", 5, 7), ("s-cat", 12, 15)], columns=["sample_id", "start", "end"]
    )
    pieces = pan._pieces("the dog and cat", concepts)
    assert pieces == [("the ", ""), ("dog", "s-dog"), (" and ", ""), ("cat", "s-cat")]


def test_patches_name_the_most_active_neurons_with_a_page(made):
    _, parts, _, chunks = made
    part = parts[0]
    for views in chunks["pictures0"]:
        for view in (view for view in views if view["paper"] == "two_stage"):
            patches = view["patches"]
            (sample,) = view["samples"]
            maps = part.maps[sample["id"]]
            low, high = patches["scale"]
            places = np.frombuffer(base64.b64decode(patches["places"]), np.uint8)
            values = np.frombuffer(base64.b64decode(patches["values"]), np.uint8)
            most = patches["most"]
            found = low + values.reshape(-1, most) / 255 * (high - low)
            expected = -np.sort(-maps.values, axis=0)[:most].T
            np.testing.assert_allclose(found, expected, atol=(high - low) / 254 + 1e-3)
            first = [patches["neurons"][place] for place in places.reshape(-1, most)[:, 0]]
            rows = chunks["rows0"]["neurons"]
            best = [maps.neurons[n] for n in maps.values.argmax(axis=0)]
            assert [(rows["layer"][n], rows["unit"][n]) for n in first] == best


def test_best_at_patches():
    values = np.array([[1.0, 9.0], [5.0, 2.0], [3.0, 4.0]])
    places, best = best_at_patches(values, 2)
    assert places.tolist() == [[1, 2], [0, 2]] and best.tolist() == [[5.0, 3.0], [9.0, 4.0]]
    assert base64.b64decode(packed_places(np.array([1, 255]))) == b"\x01\xff"
    assert base64.b64decode(packed_places(np.array([1, 258]))) == b"\x01\x00\x02\x01"


def test_scale_of_maps():
    assert scale([np.array([1.0, 2.0]), np.array([-3.0])]) == (-3.0, 2.0)
    assert scale([]) == (0.0, 0.0)
    assert base64.b64decode(packed(np.array([-1.0, 0.0, 1.0, 9.0]), -1, 1)) == b"\x00\x80\xff\xff"
    # All values alike are the lowest of their scale, not a division by nothing.
    assert base64.b64decode(packed(np.array([2.0, 2.0]), 2, 2)) == b"\x00\x00"


def test_a_model_without_patches_says_so(tmp_path):
    part = world.captioned(tmp_path, "two", grid=None)
    write_site(tmp_path / "site", "run", [part], {"two": world.neuron_tokens(3, 40)})
    for views in read_chunk(tmp_path / "site" / "data" / "pictures0.js"):
        assert all("no heatmap" in view["why"] and view["patches"] is None for view in views)
    for own in read_chunk(tmp_path / "site" / "data" / "neurons0-0.js"):
        (active,) = own["parts"]
        assert "no heatmap" in active["why"] and not active["pictures"] and not active["shares"]
        assert active["selected"] and active["recorded"] == ""


# --------------------------------------------------------------------------------------- pictures


def test_pictures_are_cut_to_what_the_model_sees_and_stored_once(made):
    folder, _, _, chunks = made
    views = [view for views in chunks["pictures0"] for view in views]
    for view in views:
        with Image.open(folder / "site" / view["file"]) as picture:
            assert picture.format == "WEBP"
            assert picture.size == {"pan": (40, 40), "two_stage": (60, 40)}.get(
                view["paper"], (48, 48)
            )
        assert view["alt"].startswith("Picture")
    files = {path.name for path in (folder / "site" / "pictures").iterdir()}
    named = set(re.findall(r"pictures/(\w+\.webp)", json.dumps(chunks)))
    assert files == named


def test_pictures_shrink_until_they_fit(tmp_path):
    from mmneurons.browser.parts import Shown

    grain = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    pictures = Pictures()
    for name in "abc":
        pictures.file(Shown(name, "", lambda: Image.fromarray(grain)))
    assert pictures.write(tmp_path / "all", 256, 10**9) == 256
    side = pictures.write(tmp_path / "less", 256, 60_000)
    assert 64 <= side < 256
    files = list((tmp_path / "less" / "pictures").iterdir())
    assert sum(path.stat().st_size for path in files) <= 60_000 and len(files) == 3
    for path in files:
        with Image.open(path) as picture:
            assert max(picture.size) == side


# ------------------------------------------------------------------------------------- comparison


def test_overlap_layers_and_units_of_a_table_by_hand():
    from types import SimpleNamespace

    rows = [("a", "s", 0, 1, 0), ("a", "s", 0, 2, 1), ("b", "s", 0, 2, 0), ("b", "s", 1, 7, 1)]
    rows += [("a", "t", 1, 7, 0), ("b", "t", 1, 7, 0), ("b", "t", 0, 3, 1), ("a", "t", 0, 9, 60)]
    rows += [("c", "u", 0, 1, 0)]
    found = pd.DataFrame(rows, columns=["method", "sample_id", "layer", "unit", "rank"])
    found["module"] = "language"
    methods = [SimpleNamespace(key=key) for key in "abc"]
    part = SimpleNamespace(found=found, methods=methods, layers={"language": [10, 10]})
    # s: one of two; t: the only one within the 50 best of a is the best of b.
    assert overlaps(part) == [[1.0, 0.75, None], [0.75, 1.0, None], [None, None, 1.0]]
    assert layer_counts(part, "a") == {"language": [2, 1]}
    assert unit_counts(part, "b", 2) == ([("language", 1, 7, 2), ("language", 0, 2, 1)], 3)


def test_of_random_neurons_the_first_selection_is_counted():
    from types import SimpleNamespace

    rows = [("auto", "s", 0, 1, 0, None), ("auto", "s", 0, 2, 1, None)]
    rows += [("random", "s", 0, unit, -1, seed) for seed in (3, 4) for unit in (2, 4 + seed)]
    rows += [("random", "t", 1, 7, -1, 4), ("random", "s", 0, 2, -1, 3)]
    columns = ["method", "sample_id", "layer", "unit", "rank", "seed"]
    found = pd.DataFrame(rows, columns=columns).assign(module="language")
    methods = [SimpleNamespace(key=key) for key in ("auto", "random")]
    part = SimpleNamespace(found=found, methods=methods, layers={"language": [10, 10]})
    # Seed 3 is the first; what it draws twice for a sample counts once.
    assert layer_counts(part, "random") == layer_counts(part, "auto") == {"language": [2, 0]}
    assert unit_counts(part, "random", 9) == ([("language", 0, 2, 1), ("language", 0, 7, 1)], 2)
    assert overlaps(part) == [[1.0, 0.5], [0.5, 1.0]]


def test_short_names_fit_and_tell_all_methods_apart(made):
    _, _, _, chunks = made
    named = [method["short"] for method in chunks["index"]["methods"]]
    named += [*pan.SHORT.values(), *two_stage.SHORT.values()]
    assert all(len(name) <= SHORT for name in named)
    of_key = {**two_stage.SHORT, **{f"{key}/plain": name for key, name in pan.SHORT.items()}}
    assert len(set(of_key.values())) == len(of_key)
    labels = {
        two_stage._method(key, "act").label: two_stage._method(key, "act").short
        for key in two_stage.SHORT
    }
    assert len(labels) == len(two_stage.SHORT)


def test_rates_are_those_of_the_measures(made):
    _, _, _, chunks = made
    by_paper = {part["paper"]: part["rates"] for part in chunks["compare"]}
    assert ["suppression", "two_stage/auto", 0.5, 0.4, 0.6, 40] in by_paper["two_stage"]
    assert ["edit of a word: source gone", "random/plain", 0.5, 0.4, 0.6, 8] in by_paper["pan"]
    what = "accuracy, medical: vision deactivated"
    assert [what, "dape", 0.4, 0.3, 0.9, 2] in by_paper["mmneuron"]
    assert [what, "random", 0.85, 0.8, 0.9, 4] in by_paper["mmneuron"]


# ------------------------------------------------------------------------------------------ files


def test_the_site_is_the_same_every_time(made, tmp_path):
    folder, parts, tokens, _ = made
    write_site(tmp_path, "<run>", parts, tokens, notes=["a & b"])
    before = {
        p.relative_to(folder / "site"): p for p in (folder / "site").rglob("*") if p.is_file()
    }
    after = {p.relative_to(tmp_path): p for p in tmp_path.rglob("*") if p.is_file()}
    assert before.keys() == after.keys() and len(after) > 25
    assert all(after[name].read_bytes() == before[name].read_bytes() for name in before)


def test_pages_load_nothing_from_elsewhere_and_take_no_markup_from_data():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        addresses = [word for word in re.findall(r"\w+://[^\"'\s]+", text)]
        assert all(word.startswith("http://www.w3.org/2000/svg") for word in addresses), path
    script = (STATIC / "browser.js").read_text(encoding="utf-8")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in script


def test_numbers_of_the_data():
    assert plain({"a": np.float32(1.23456789), 2: [np.nan, np.inf, None, True]}) == {
        "a": 1.2346,
        "2": [None, None, None, True],
    }
    assert plain(np.array([[1, 2]])) == [[1, 2]]
    with pytest.raises(TypeError, match="no JSON for object"):
        plain(object())


def test_inputs_are_dealt_to_the_models():
    inputs = {"pan_maps": ["a", "b"], "pan_neurons": ["1", "2", "3", "4"], "pan_pictures": "all"}
    inputs["two_stage_valid"] = "other"
    found = of_model(inputs, "pan", 1, 2)
    assert found == {"maps": ["b"], "neurons": ["3", "4"], "pictures": ["all"]}
    with pytest.raises(ValueError, match="3 paths of neurons for 2 models of pan"):
        of_model({"pan_neurons": ["1", "2", "3"]}, "pan", 0, 2)
    assert language_layers(world.neuron_tokens(2, 5)) == [5, 5]
