"""Writing the site: which neurons and pictures are shown, and their data in small chunks.

A page that is opened from disk cannot read JSON files, but it can load scripts. So every chunk is a
script of one call, `mmneurons(name, data)`, with the data as JSON in plain ASCII. The pages put
all texts in as text and never as markup.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mmneurons.artifacts.neurons import Neuron
from mmneurons.browser.compare import BEST, first_selection, layer_counts, overlaps, unit_counts
from mmneurons.browser.parts import EXCLUSIONS, NEURON, Part, View, Where
from mmneurons.browser.pictures import Pictures, best_at_patches, packed, packed_places, scale
from mmneurons.figures.style import METHOD_COLOURS, OTHER_COLOUR, uniform_colormap

STATIC = Path(__file__).parent / "static"
FORMAT = 1
CHUNK = 40
"""Neurons a chunk, and pictures a chunk."""
MAPPED_UNITS = 20000
"""Units a method that the map of a model shows, at most."""
OF_A_SAMPLE = 8
"""Neurons that a picture's page lists of each method and concept."""
AT_A_PATCH = 5
COLOURS = METHOD_COLOURS | {"dape": "#56B4E9"}
PAPERS = {
    "two_stage": "Sato & Takagi 2025: two-stage filtering",
    "pan": "Pan et al. 2024",
    "mmneuron": "Huo et al. 2024: MMNeuron",
    "schwettmann": "Schwettmann et al. 2023",
}


def write_site(
    folder: str | Path,
    run: str,
    parts: Sequence[Part],
    tokens: Mapping[str, pd.DataFrame],
    neurons: int = 1000,
    pictures: int = 8,
    side: int = 256,
    megabytes: float = 20,
    notes: Sequence[str] = (),
) -> None:
    """Write the whole browser of a run into an empty or new folder.

    tokens: neuron_tokens by model. neurons: so many of each model have a page, those of which most
    was recorded, then those of the best ranks. pictures: so many are shown with a neuron. side:
    pixels of a picture's longest side, at most; megabytes: of all pictures together. notes:
    sentences about the run for the first page.
    """
    _Site(Path(folder), parts, tokens, neurons, pictures).write(
        run, side, int(megabytes * 1e6), notes
    )


def shown_neurons(
    found: pd.DataFrame, most: int, recorded: Mapping[Where, int] | None = None
) -> list[Where]:
    """The neurons that get a page: those of which most was recorded, of these the best ranks.

    recorded: whether there are maps of a neuron and whether there are effects, as a number, 0
    where it is not named. Ranks are the best by any method; of equal ranks the neuron of most
    samples comes first. Random neurons have no rank and get none for being drawn.
    """
    ranked = found[found["rank"] >= 0]
    best = ranked.groupby(NEURON)["rank"].agg(["min", "size"]).reset_index()
    known = recorded or {}
    rows = best[NEURON].itertuples(index=False, name=None)
    best["recorded"] = np.array([known.get(where, 0) for where in rows], dtype=int)
    order = best.sort_values(
        ["recorded", "min", "size", *NEURON],
        ascending=[False, True, False, True, True, True],
        kind="stable",
    )
    chosen = order.head(most).sort_values(NEURON, kind="stable")
    rows = chosen[NEURON].itertuples(index=False, name=None)
    return [(str(module), int(layer), int(unit)) for module, layer, unit in rows]


def among(table: pd.DataFrame, neurons: Container[Where]) -> np.ndarray:
    """Whether each row's neuron is one of `neurons`."""
    rows = table[NEURON].itertuples(index=False, name=None)
    return np.array([where in neurons for where in rows], dtype=bool)


def changed(part: Part) -> pd.DataFrame:
    """Rows of `part.found` whose neurons were changed, once for each of their effects."""
    joined = part.found.merge(part.effects, on=["method", "key"])
    return joined[(joined["rank"] < joined["best"]) & (joined["rank"] >= 0)]


class _Site:
    def __init__(self, folder, parts, tokens, neurons, pictures):
        self.folder, self.tokens = folder, tokens
        self.parts = [replace(part, found=first_selection(part.found)) for part in parts]
        self.n_pictures = pictures
        self.pictures = Pictures()
        self.models = list(dict.fromkeys(part.model for part in self.parts))
        self.methods = list(dict.fromkeys(m.key for part in self.parts for m in part.methods))
        self.own = {m: [part for part in self.parts if part.model == m] for m in self.models}
        self.changed = {id(part): changed(part) for part in self.parts}
        self.shown = {
            model: shown_neurons(
                pd.concat([part.found for part in own]), neurons, self._recorded(own)
            )
            for model, own in self.own.items()
        }
        self.place = {
            model: {where: number for number, where in enumerate(shown)}
            for model, shown in self.shown.items()
        }
        self.tops = {id(part): self._tops(part) for part in self.parts}
        self.views = self._chosen_views()
        names = dict.fromkeys(view.picture for _, view in self.views)
        self.picture_place = {name: number for number, name in enumerate(names)}
        self.view_of = {
            (id(part), sample): view for part, view in self.views for sample in view.samples
        }

    # ---------------------------------------------------------------------------------- choices

    def _modules(self, model: str) -> dict[str, list[int]]:
        """Units of every layer by module, those of all papers' recordings together."""
        return {
            module: list(units) for part in self.own[model] for module, units in part.layers.items()
        }

    def _recorded(self, parts: Sequence[Part]) -> Mapping[Where, int]:
        """1 for neurons of which there are maps or effects, 2 where there are both."""
        mapped = {
            ("language", int(layer), int(unit))
            for part in parts
            for maps in part.maps.values()
            for layer, unit in maps.neurons
        }
        tested = {
            where
            for part in parts
            for where in self.changed[id(part)][NEURON].itertuples(index=False, name=None)
        }
        return Counter([*mapped, *tested])

    def _of_part(self, part: Part) -> list[Where]:
        return [where for where in self.shown[part.model] if where[0] in part.layers]

    def _tops(self, part: Part) -> dict[Where, list[tuple[str, float]]]:
        """The samples with each neuron's largest values, best first, one a picture."""
        if part.tops is not None:
            found = part.found[part.found["method"].isin([m.key for m in part.methods])]
            own = set(found[NEURON].itertuples(index=False, name=None))
            return part.tops([w for w in self._of_part(part) if w in own], self.n_pictures)
        values: dict[Where, list[tuple[float, str]]] = {}
        for sample, maps in part.maps.items():
            for place, (layer, unit) in enumerate(maps.neurons):
                where = ("language", int(layer), int(unit))
                if where in self.place[part.model]:
                    most = float(maps.values[place].max())
                    values.setdefault(where, []).append((most, sample))
        picture = {sample: view.picture for view in part.views for sample in view.samples}
        tops = {}
        for where, own in values.items():
            seen: dict[str, tuple[str, float]] = {}
            for most, sample in sorted(own, key=lambda pair: (-pair[0], pair[1])):
                if sample in picture:
                    seen.setdefault(picture[sample], (sample, most))
            tops[where] = list(seen.values())[: self.n_pictures]
        return tops

    def _chosen_views(self) -> list[tuple[Part, View]]:
        """All pictures that are captioned or answered, and those of the neurons' largest values."""
        needed = {
            (id(part), sample)
            for part in self.parts
            for own in self.tops[id(part)].values()
            for sample, _ in own
        }
        return [
            (part, view)
            for part in self.parts
            for view in part.views
            if part.tops is None
            or ("used to", "test neurons") in view.details
            or any((id(part), sample) in needed for sample in view.samples)
        ]

    # ---------------------------------------------------------------------------------- writing

    def write(self, run: str, side: int, most_bytes: int, notes: Sequence[str]) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        for file in sorted(STATIC.iterdir()):
            shutil.copyfile(file, self.folder / file.name)
        models = [self._model(number, model) for number, model in enumerate(self.models)]
        self._picture_pages()
        self._chunk("compare", self._compare())
        self._chunk("exclusions", self._exclusions())
        side = self.pictures.write(self.folder, side, most_bytes)
        self._chunk(
            "index",
            {
                "format": FORMAT,
                "run": run,
                "papers": PAPERS,
                "methods": [self._method(key) for key in self.methods],
                "models": models,
                "pictures": {"n": len(self.picture_place), "chunk": CHUNK, "side": side},
                "colours": colour_table("viridis"),
                "notes": list(notes),
                "best": BEST,
            },
        )

    def _chunk(self, name: str, value: object) -> None:
        text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        path = self.folder / "data" / f"{name}.js"
        path.write_text(f"mmneurons({json.dumps(name)},{text});\n", encoding="ascii")

    def _method(self, key: str) -> dict:
        found = next(m for part in self.parts for m in part.methods if m.key == key)
        return {
            "key": key,
            "label": found.label,
            "short": found.short,
            "note": found.note,
            "site": found.site,
            "counted": found.counted,
            "ranked": found.ranked,
            "colour": COLOURS.get(key.split("/")[0], OTHER_COLOUR),
        }

    # ----------------------------------------------------------------------------------- models

    def _model(self, number: int, model: str) -> dict:
        """Write all chunks of a model; returns what the first page says of it."""
        parts = self.own[model]
        modules = self._modules(model)
        rows, groups = self._rows(number, model)
        self._neurons(number, model)
        units = {}
        for part in parts:
            for method in part.methods:
                found, n = unit_counts(part, method.key, MAPPED_UNITS)
                names = list(modules)
                units[method.key] = {
                    "n": n,
                    "units": [(names.index(m), *rest) for m, *rest in found],
                }
        self._chunk(f"units{number}", units)
        inert = {name: layers for part in parts for name, layers in part.inert.items()}
        return {
            "name": model,
            "label": parts[0].label,
            "papers": [part.paper for part in parts],
            "data": list(dict.fromkeys(part.data for part in parts)),
            "modules": [
                {"name": name, "units": units, "inert": list(inert.get(name, []))}
                for name, units in modules.items()
            ],
            "layers": {
                method.key: layer_counts(part, method.key)
                for part in parts
                for method in part.methods
            },
            "neurons": len(self.shown[model]),
            "found": len(
                pd.concat([p.found[p.found["rank"] >= 0][NEURON] for p in parts]).drop_duplicates()
            ),
            "chunk": CHUNK,
            "rows": rows,
            "groups": groups,
            "decoded": model in self.tokens,
        }

    def _rows(self, number: int, model: str) -> tuple[int, int]:
        """Write the rows of the table: a neuron, a method and a concept, object or domain each."""
        place = self.place[model]
        found = pd.concat([part.found for part in self.own[model]], ignore_index=True)
        found = found[found["rank"] < BEST]
        where = list(found[NEURON].itertuples(index=False, name=None))
        found = found.assign(neuron=[place.get(w, -1) for w in where])
        found = found[found["neuron"] >= 0]
        table = found.groupby(["neuron", "method", "group"], sort=True).agg(
            rank=("rank", "min"), score=("score", "mean"), n=("sample_id", "nunique")
        )
        table = table.reset_index()
        groups = sorted(table["group"].unique())
        texts = self._token_texts(model)
        modules = list(self._modules(model))
        shown = self.shown[model]
        self._chunk(
            f"rows{number}",
            {
                "groups": groups,
                "neurons": {
                    "module": [modules.index(m) for m, _, _ in shown],
                    "layer": [layer for _, layer, _ in shown],
                    "unit": [unit for _, _, unit in shown],
                    "tokens": [[t for t, _ in texts[w]] if w in texts else None for w in shown],
                },
                "neuron": table["neuron"].tolist(),
                "method": [self.methods.index(key) for key in table["method"]],
                "group": [groups.index(name) for name in table["group"]],
                "rank": [int(r) + 1 if r >= 0 else None for r in table["rank"]],
                "score": [
                    score if rank >= 0 else None
                    for score, rank in zip(table["score"], table["rank"], strict=True)
                ],
                "samples": table["n"].tolist(),
            },
        )
        return len(table), len(groups)

    def _token_texts(self, model: str) -> dict[Where, list[tuple[str, float]]]:
        if model not in self.tokens:
            return {}
        table, place = self.tokens[model], self.place[model]
        return {
            (row.module, row.layer, row.unit): [
                (str(text), float(p)) for text, p in zip(row.tokens, row.probabilities, strict=True)
            ]
            for row in table.itertuples()
            if (row.module, row.layer, row.unit) in place
        }

    def _neurons(self, number: int, model: str) -> None:
        """Write what the pages of a model's neurons show."""
        texts = self._token_texts(model)
        parts = self.own[model]
        about = [
            (part, self._ranks(part), self._effects(part), self._selected(part)) for part in parts
        ]
        shares = [part.shares(self._of_part(part)) if part.shares else {} for part in parts]
        maps = [self._maps_of(part) for part in parts]
        details = []
        for where in self.shown[model]:
            detail = {"tokens": texts.get(where), "ranks": [], "effects": [], "parts": []}
            for known, share, of_neuron in zip(about, shares, maps, strict=True):
                part, ranks, effects, selected = known
                if where[0] not in part.layers:
                    continue
                detail["ranks"] += ranks.get(where, [])
                detail["effects"] += effects.get(where, [])
                detail["parts"].append(
                    self._active(part, where, share.get(where), of_neuron.get(where, {}))
                    | self._chosen(part, where, selected.get(where, []))
                )
            details.append(detail)
        for first in range(0, len(details), CHUNK):
            self._chunk(f"neurons{number}-{first // CHUNK}", details[first : first + CHUNK])

    def _ranks(self, part: Part) -> dict[Where, list]:
        """By neuron, a row a method: place, best rank, its concept and picture, how many samples.

        A neuron that a method never has among what was recorded has a row without a rank.
        """
        place = self.place[part.model]
        samples = part.found.groupby("method")["sample_id"].nunique()
        kept = part.found.groupby(["method", "sample_id"]).size().groupby("method").max()
        of_neuron: dict[Where, dict[str, list]] = {}
        mine = part.found[among(part.found, place)]
        best = mine.sort_values(["rank", "sample_id"], kind="stable")
        best = best.groupby([*NEURON, "method"], sort=False)
        table = best.first().assign(n=best["sample_id"].nunique()).reset_index()
        for row in table.itertuples():
            where = (row.module, int(row.layer), int(row.unit))
            view = self.view_of.get((id(part), row.sample_id))
            ranked = row.rank >= 0
            of_neuron.setdefault(where, {})[row.method] = [
                self.methods.index(row.method),
                int(row.rank) + 1 if ranked else None,
                row.group,
                self.picture_place[view.picture] if view and ranked else None,
                int(row.n),
                int(samples[row.method]),
                row.score if ranked else None,
                int(kept[row.method]),
            ]
        return {
            where: [
                own.get(
                    method.key,
                    [
                        self.methods.index(method.key),
                        *[None, None, None, 0],
                        int(samples.get(method.key, 0)),
                        None,
                        int(kept.get(method.key, 0)),
                    ],
                )
                for method in part.methods
            ]
            for where in self._of_part(part)
            for own in [of_neuron.get(where, {})]
        }

    def _effects(self, part: Part) -> dict[Where, list]:
        """By neuron, a row a method, concept and measure: value and n beside the random control's.

        Means over the samples whose changed neurons it was among.
        """
        place = self.place[part.model]
        joined = self.changed[id(part)]
        joined = joined[among(joined, place)]
        found: dict[Where, list] = {}
        keys = [*NEURON, "method", "group", "measure"]
        table = joined.groupby(keys, sort=True).agg(
            value=("value", "mean"),
            n=("n", "sum"),
            control=("control", "mean"),
            n_control=("n_control", "sum"),
            samples=("key", "nunique"),
        )
        for row in table.reset_index().itertuples():
            found.setdefault((row.module, int(row.layer), int(row.unit)), []).append(
                [
                    self.methods.index(row.method),
                    row.group,
                    part.measures[row.measure],
                    row.value,
                    int(row.n),
                    row.control,
                    int(row.n_control),
                    int(row.samples),
                ]
            )
        return found

    def _selected(self, part: Part) -> dict[Where, list[tuple]]:
        """By neuron, (sample, method, rank, score) where it was found, best rank first.

        One a picture. Domain neurons are found for a domain and not for a picture.
        """
        if part.tops is not None:
            return {}
        place, found = self.place[part.model], part.found
        own = found[(found["rank"] >= 0) & among(found, place)]
        rows = own.sort_values(["rank", "sample_id", "method"], kind="stable")
        selected: dict[Where, dict[str, tuple]] = {}
        for row in rows.itertuples():
            view = self.view_of.get((id(part), row.sample_id))
            if view:
                where = (row.module, int(row.layer), int(row.unit))
                what = (row.sample_id, row.method, int(row.rank), row.score)
                selected.setdefault(where, {}).setdefault(view.picture, what)
        return {where: list(pictures.values()) for where, pictures in selected.items()}

    def _maps_of(self, part: Part) -> dict[Where, dict[str, np.ndarray]]:
        """Maps by neuron and sample, of the neurons that have a page."""
        found: dict[Where, dict[str, np.ndarray]] = {}
        for sample, maps in part.maps.items():
            for place, (layer, unit) in enumerate(maps.neurons):
                where = ("language", int(layer), int(unit))
                if where in self.place[part.model]:
                    found.setdefault(where, {})[sample] = maps.values[place]
        return found

    def _tile(self, part: Part, sample: str) -> dict:
        """What a neuron's page says of the picture of a sample, and where its own page is."""
        view = self.view_of[id(part), sample]
        return {
            "picture": self.picture_place[view.picture],
            "concept": list(view.samples).index(sample),
            "file": self.pictures.file(view.shown),
            "alt": view.shown.alt,
            "heading": view.heading,
            "group": part.group_of.get(sample, ""),
        }

    def _chosen(self, part: Part, where: Where, selected: Sequence[tuple]) -> dict:
        """The pictures for which a neuron was found and which do not stand there for a map."""
        samples = [sample for sample, _ in self.tops[id(part)].get(where, [])]
        seen = {self.view_of[id(part), sample].picture for sample in samples}
        others = [own for own in selected if self.view_of[id(part), own[0]].picture not in seen]
        return {
            "selected": [
                self._tile(part, sample)
                | {"method": self.methods.index(method), "rank": rank + 1, "score": score}
                for sample, method, rank, score in others[: self.n_pictures - len(samples)]
            ],
            "n_selected": len(others),
        }

    def _active(self, part: Part, where: Where, shares, maps: Mapping[str, np.ndarray]) -> dict:
        """Where a neuron is most active: pictures, maps on one scale, shares of tokens."""
        tops = self.tops[id(part)].get(where, [])
        low, high = scale([maps[sample] for sample, _ in tops if sample in maps])
        pictures = []
        for sample, value in tops:
            own = packed(maps[sample], low, high) if sample in maps else None
            pictures.append(self._tile(part, sample) | {"value": value, "map": own})
        viewed = [self.view_of.get((id(part), sample)) for sample in maps]
        why = part.no_maps
        if not maps and not why:
            why = "No activation map of this neuron was recorded."
        if part.tops is not None and not tops:
            asked = where in self.tops[id(part)]
            why = part.no_tops if asked else "Pictures are named for neurons of a domain only."
        known = [] if shares is None else list(shares)
        if maps and not part.spread:
            active = np.concatenate([np.ravel(values) > 0 for values in maps.values()])
            known.append(
                ("image tokens", float(active.mean()), f"{active.size} tokens, {len(maps)} samples")
            )
        return {
            "paper": part.paper,
            "data": part.data,
            "label": part.top_label,
            "grid": part.grid,
            "spread": part.spread,
            "scale": [low, high],
            "recorded": part.recorded,
            "mapped": len({view.picture for view in viewed if view}),
            "pictures": pictures,
            "why": why,
            "shares": known,
        }

    # --------------------------------------------------------------------------------- pictures

    def _picture_pages(self) -> None:
        pages: dict[str, list[dict]] = {name: [] for name in self.picture_place}
        listed: dict[str, list] = {}
        by_sample = {
            id(part): {s: rows for s, rows in self._listed(part).groupby("sample_id", sort=False)}
            for part in self.parts
        }
        for part, view in self.views:
            pages[view.picture].append(self._view(part, view, by_sample[id(part)]))
            file, text = self.pictures.file(view.shown), "".join(piece for piece, _ in view.text)
            said = [self.models.index(part.model), text, [part.group_of[s] for s in view.samples]]
            # Every model has its own caption of a picture, and a search is to find each of them.
            listed.setdefault(view.picture, [view.heading, file, part.paper, []])[-1].append(said)
        views = list(pages.values())
        for first in range(0, len(views), CHUNK):
            self._chunk(f"pictures{first // CHUNK}", views[first : first + CHUNK])
        self._chunk("pictures", [[name, *listed[name]] for name in self.picture_place])

    def _listed(self, part: Part) -> pd.DataFrame:
        first = part.found[(part.found["rank"] >= 0) & (part.found["rank"] < OF_A_SAMPLE)]
        return first.sort_values(["method", "rank"], kind="stable")

    def _view(self, part: Part, view: View, listed: Mapping[str, pd.DataFrame]) -> dict:
        samples = {sample: number for number, sample in enumerate(view.samples)}
        return {
            "model": self.models.index(part.model),
            "paper": part.paper,
            "data": view.data or part.data,
            "heading": view.heading,
            "file": self.pictures.file(view.shown),
            "alt": view.shown.alt,
            "groups": part.groups,
            "grid": part.grid,
            "spread": part.spread,
            "why": part.no_maps,
            "text": [
                [piece, samples[sample]] if sample else [piece, None] for piece, sample in view.text
            ],
            "samples": [self._sample(part, sample, listed) for sample in view.samples],
            "others": [
                {"file": self.pictures.file(own), "alt": own.alt, "text": text}
                for own, text in view.others
            ],
            "details": [list(pair) for pair in view.details],
            "patches": self._patches(part, view),
        }

    def _sample(self, part: Part, sample: str, listed: Mapping[str, pd.DataFrame]) -> dict:
        place = self.place[part.model]
        group = part.group_of[sample]
        # Domain neurons belong to all questions of their domain.
        rows = listed.get(sample, listed.get(group))
        found: dict[int, list] = {}
        for row in () if rows is None else rows.itertuples():
            where = (row.module, int(row.layer), int(row.unit))
            found.setdefault(self.methods.index(row.method), []).append(
                [place.get(where, -1), str(Neuron(*where)), int(row.rank) + 1, row.score]
            )
        maps = part.maps.get(sample)
        means = [] if maps is None else maps.means
        packed_means = []
        for what, values in means:
            low, high = scale([values])
            packed_means.append([what, packed(values, low, high), low, high])
        return {
            "id": sample,
            "group": group,
            "found": sorted(found.items()),
            "maps": packed_means,
        }

    def _patches(self, part: Part, view: View) -> dict | None:
        """The neurons with a page that are most active at each patch, of all its samples."""
        place = self.place[part.model]
        values: dict[int, np.ndarray] = {}
        for sample in view.samples:
            maps = part.maps.get(sample)
            for number, (layer, unit) in enumerate(() if maps is None else maps.neurons):
                neuron = place.get(("language", int(layer), int(unit)))
                if neuron is not None:
                    own = maps.values[number]
                    values[neuron] = np.maximum(values.get(neuron, own), own)
        if not values:
            return None
        neurons = np.array(list(values))
        best, most = best_at_patches(np.stack(list(values.values())), AT_A_PATCH)
        low, high = scale([most])
        used, places = np.unique(neurons[best], return_inverse=True)
        return {
            "neurons": used.tolist(),
            "n": len(neurons),
            "most": best.shape[1],
            # With one neuron there is nothing to tell apart.
            "places": packed_places(places.reshape(best.shape)) if len(used) > 1 else None,
            "values": packed(most, low, high),
            "scale": [low, high],
        }

    # ------------------------------------------------------------------------------ the rest

    def _compare(self) -> list[dict]:
        return [
            {
                "model": self.models.index(part.model),
                "paper": part.paper,
                "data": part.data,
                "groups": part.groups,
                "methods": [self.methods.index(method.key) for method in part.methods],
                "overlaps": overlaps(part) if len(part.methods) > 1 else None,
                "rates": part.rates.to_numpy(dtype=object).tolist(),
                "counts": self._counts(part),
            }
            for part in self.parts
        ]

    def _counts(self, part: Part) -> list:
        """Neurons by group and module, of the methods that find neurons of a whole group."""
        if part.paper != "mmneuron":
            return []
        table = part.found.groupby(["group", "module"]).size()
        return [[group, module, int(n)] for (group, module), n in table.items()]

    def _exclusions(self) -> list[dict]:
        return [
            {
                "model": self.models.index(part.model),
                "paper": part.paper,
                "rows": part.exclusions[EXCLUSIONS].astype(str).to_numpy(dtype=object).tolist(),
            }
            for part in self.parts
        ]


def plain(value: object) -> object:
    """Numbers of numpy as those of Python, floats with five digits, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.5g}") if math.isfinite(number) else None
    if isinstance(value, Iterable):
        return [plain(own) for own in value]
    raise TypeError(f"no JSON for {type(value).__name__}")


def colour_table(name: str) -> str:
    """256 colours of a perceptually uniform map, six hexadecimal digits each."""
    colours = np.rint(uniform_colormap(name)(np.arange(256))[:, :3] * 255).astype(np.uint8)
    return colours.tobytes().hex()
