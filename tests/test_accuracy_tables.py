"""Accuracy, deviation, silent neurons and the plane of embeddings, from tables made by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from mmneurons.metrics.accuracy import COLUMNS, accuracy_table, majority_answer, scored_answers
from mmneurons.metrics.answers import score
from mmneurons.metrics.deviation import COLUMNS as DEVIATION_COLUMNS
from mmneurons.metrics.deviation import OVER, deviation_table
from mmneurons.metrics.intervals import bootstrap_interval, mean_intervals
from mmneurons.metrics.pca import principal_plane
from mmneurons.metrics.silent import silent_table
from mmneurons.metrics.trials import sample_means

QUESTION = {"question": "?", "options": [], "confidence": [""], "kind": "", "part": "evaluate"}
OPTIONS = ["A: tumor", "B: cyst"]
METRICS = {
    "common": "vqa",
    "medical": "multiple_choice",
    "driving": "lingo_judge",
    "document": "anls",
    "remote": "exact",
}


def question(sample_id, group, answers, **more):
    row = {"sample_id": sample_id, "group": group, "answer": answers[0], "answers": answers}
    return QUESTION | {"metric": METRICS[group], "confidence": [""] * len(answers)} | row | more


def reply(sample_id, text, condition="none", control="", seed=-1):
    trial = {"condition": condition, "control": control, "seed": seed}
    return {"sample_id": sample_id, "reply": text} | trial


def value(table, column="value", **where):
    for key, wanted in where.items():
        table = table[table[key] == wanted]
    (found,) = table[column]
    return found


QUESTIONS = pd.DataFrame(
    [
        question("common-1", "common", ["red"] * 2 + ["blue"] * 8, confidence=["yes"] * 10),
        question("common-2", "common", ["2"] * 10, confidence=["maybe"] * 10),
        question("medical-1", "medical", ["B"], options=OPTIONS),
        question("medical-2", "medical", ["A"], options=OPTIONS),
        question("driving-1", "driving", ["a car in front", "a car"]),
        question("driving-2", "driving", ["turn left"]),
        question("document-1", "document", ["abcd"]),
        question("remote-1", "remote", ["10m2"]),
        question("remote-2", "remote", [""]),
    ]
)
ANSWERS = pd.DataFrame(
    [
        reply("common-1", "Red."),
        reply("common-2", "two"),
        reply("medical-1", "BBB"),
        reply("medical-2", "(A)"),
        reply("driving-1", "a car"),
        reply("driving-2", "turn right"),
        reply("document-1", "abxy"),
        reply("remote-1", "10M2"),
        reply("remote-2", "10m2"),
    ]
)


# ---------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize(
    ("group", "metric", "official", "released", "n"),
    [
        # Two of ten: (2 * 1/3 + 8 * 2/3) / 10; "two" is 2, but no one was sure of it.
        ("common", "vqa", (0.6 + 1) / 2, 0, 2),
        ("medical", "multiple_choice", 0.5, (3 + 1) / 2, 2),
        ("driving", "exact", 0.5, 0.5, 2),
        ("document", "anls", 0, 0.5, 1),
        ("remote", "exact", 1, 1, 1),
    ],
)
def test_accuracy_by_hand(group, metric, official, released, n):
    table = accuracy_table(QUESTIONS, ANSWERS, draws=50)
    assert list(table) == COLUMNS
    assert table["group"].tolist() == [name for name in METRICS for _ in range(2)]
    for variant, expected in (("official", official), ("released", released)):
        where = {"group": group, "variant": variant}
        assert value(table, **where) == pytest.approx(expected)
        assert value(table, "metric", **where) == metric
        assert value(table, "n", **where) == n
        assert value(table, "n_left_out", **where) == (group == "remote")
        trial = [value(table, column, **where) for column in ("condition", "control", "seed")]
        assert trial == ["none", "", -1]
        if n < 2:
            assert math.isnan(value(table, "low", **where))


def test_labels_say_what_was_measured():
    table = accuracy_table(QUESTIONS, ANSWERS, draws=2).set_index(["group", "variant"])["label"]
    assert table["common", "official"] == "VQA accuracy"
    assert table["common", "released"] == "exact match with a confident answer"
    assert table["document", "official"] == "ANLS, cut-off 0.5"
    assert table["document", "released"] == "ANLS without cut-off"
    without = "exact match (no Lingo-Judge configured)"
    assert table["driving", "official"] == table["driving", "released"] == without


def judged(rows):
    columns = ["sample_id", "reply", "reference", "logit", "score"]
    return pd.DataFrame([dict(zip(columns, row, strict=True)) for row in rows])


VERDICTS = judged(
    [
        ("driving-1", "a car", "a car in front", -1.0, 0.3),
        ("driving-1", "a car", "a car", 0.1, 0.5),
        ("driving-2", "turn right", "turn left", 0.0, 0.6),
    ]
)


def test_the_judge_decides_by_its_best_reference():
    table = accuracy_table(QUESTIONS, ANSWERS, VERDICTS, draws=50)
    own = table[table["group"] == "driving"]
    assert own["metric"].tolist() == ["lingo_judge"] * 2
    assert own["label"].tolist() == ["Lingo-Judge", "Lingo-Judge, not truncated"]
    scored = scored_answers(QUESTIONS, ANSWERS, VERDICTS).set_index("sample_id")
    # Above 0 and above 0.5, not at them.
    assert scored.loc["driving-1", ["official", "released"]].tolist() == [1, 0]
    assert scored.loc["driving-2", ["official", "released"]].tolist() == [0, 1]
    others = accuracy_table(QUESTIONS, ANSWERS, draws=50)
    kept = table[table["group"] != "driving"].reset_index(drop=True)
    without = others[others["group"] != "driving"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, without)


def test_a_reply_that_was_not_judged_is_an_error_and_an_empty_one_is_wrong():
    with pytest.raises(ValueError, match="'turn right' to driving-2 was not judged"):
        accuracy_table(QUESTIONS, ANSWERS, VERDICTS.iloc[:2])
    with pytest.raises(ValueError, match="not judged"):
        accuracy_table(QUESTIONS, ANSWERS, VERDICTS.iloc[:0])
    silent = pd.DataFrame([reply("driving-2", " ")])
    assert accuracy_table(QUESTIONS, silent, VERDICTS.iloc[:0])["value"].tolist() == [0, 0]
    asked = pd.DataFrame([question("driving-3", "driving", [" "])])
    table = accuracy_table(asked, pd.DataFrame([reply("driving-3", "yes")]), VERDICTS)
    assert table["value"].isna().all()
    assert table["n"].tolist() == [0, 0] and table["n_left_out"].tolist() == [1, 1]


def many(n=30, seed=0):
    """Questions of all domains and their replies in seven trials, with empty ones among them."""
    rng = np.random.default_rng(seed)
    texts = ["red", "blue", "2", "A", "B", "a car", "a cat", "", "\u718a"]
    questions = []
    for group in METRICS:
        for number in range(n):
            answers = rng.choice(texts, 10 if group == "common" else 2).tolist()
            more = {"confidence": rng.choice(["yes", "no"], 10).tolist()}
            if group == "medical":
                answers, more = [rng.choice(["A", "B", "C"])], {"options": OPTIONS}
            elif group != "common":
                more = {}
            questions.append(question(f"{group}-{number}", group, answers, **more))
    trials = [("none", "", -1), ("vision", "dape", -1), ("language", "dape", -1)]
    trials += [("vision", "random", seed) for seed in (0, 1, 10, 2)]
    answers = [
        reply(row["sample_id"], rng.choice(texts), *trial) for row in questions for trial in trials
    ]
    return pd.DataFrame(questions), pd.DataFrame(answers)


def by_definition(questions, answers):
    """Mean and interval of every row, one after the other, by `score` and `bootstrap_interval`."""
    rows = answers.merge(questions, on="sample_id")
    metric = rows["metric"].replace("lingo_judge", "no_judge")
    fields = ("reply", "answer", "answers", "confidence", "options")
    scores = [score(*row) for row in zip(metric, *(rows[name] for name in fields), strict=True)]
    rows[["official", "released"]] = np.array(scores)
    found = {}
    for trial, own in rows.groupby(["group", "condition", "control", "seed"]):
        for variant in ("official", "released"):
            known = own.dropna(subset=variant)
            bounds = bootstrap_interval(known, variant, "sample_id", seed=3)
            counts = (len(known), len(own) - len(known))
            found[*trial, variant] = (known[variant].mean(), *bounds, *counts)
    return found


def test_means_and_intervals_are_those_of_one_row_at_a_time():
    questions, answers = many()
    table = accuracy_table(questions, answers, seed=3)
    expected = by_definition(questions, answers)
    keys = ["group", "condition", "control", "seed", "variant"]
    numbers = ["value", "low", "high", "n", "n_left_out"]
    found = table.set_index(keys)[numbers]
    assert len(found) == len(expected) == 5 * 7 * 2
    for key, row in expected.items():
        assert found.loc[key].tolist() == pytest.approx(row), key
    assert found["n_left_out"].max() > 0
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()


def test_the_order_of_rows_and_references_does_not_matter():
    questions, answers = many(12)
    table = accuracy_table(questions, answers, draws=100)
    reordered = questions.copy()
    for name in ("answers", "confidence"):
        reordered[name] = [row[::-1] for row in reordered[name]]
    # Groups stay in their order, which is that of the table.
    reordered = pd.concat([own[::-1] for _, own in reordered.groupby("group", sort=False)])
    shuffled = answers.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(accuracy_table(reordered, shuffled, draws=100), table)
    trials = table.drop_duplicates(["condition", "control", "seed"])
    assert trials["condition"].tolist() == ["none", *["vision"] * 5, "language"]
    assert trials["control"].tolist() == ["", "dape", *["random"] * 4, "dape"]
    assert trials["seed"].tolist() == [-1, -1, 0, 1, 2, 10, -1]


def test_questions_that_are_read_back_give_the_same_table(tmp_path):
    from mmneurons.artifacts.tables import read_table, write_table

    questions, answers = many(4)
    write_table(questions, tmp_path / "questions.parquet")
    write_table(answers, tmp_path / "answers.parquet")
    found = accuracy_table(
        read_table(tmp_path / "questions.parquet"), read_table(tmp_path / "answers.parquet")
    )
    pd.testing.assert_frame_equal(found, accuracy_table(questions, answers), check_dtype=False)


def test_a_group_with_two_metrics_has_rows_for_each():
    questions = pd.DataFrame(
        [
            question("a", "remote", ["yes"]),
            question("b", "remote", ["abcd"], metric="anls"),
        ]
    )
    table = accuracy_table(questions, pd.DataFrame([reply("a", "no"), reply("b", "abcx")]))
    official = table[table["variant"] == "official"].set_index("metric")["value"]
    assert official.to_dict() == {"exact": 0, "anls": 0.75}


def test_questions_without_replies_have_no_row_and_no_replies_make_an_empty_table():
    table = accuracy_table(QUESTIONS, ANSWERS.iloc[:2], draws=2)
    assert set(table["group"]) == {"common"}
    assert list(accuracy_table(QUESTIONS, ANSWERS.iloc[:0])) == COLUMNS


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="no question remote-9"):
        accuracy_table(QUESTIONS, pd.DataFrame([reply("remote-9", "yes")]))
    with pytest.raises(ValueError, match="remote-1 twice"):
        accuracy_table(QUESTIONS, pd.concat([ANSWERS, ANSWERS.iloc[[7]]]))
    with pytest.raises(ValueError, match="common-1 twice"):
        accuracy_table(pd.concat([QUESTIONS, QUESTIONS.iloc[:1]]), ANSWERS)


def test_what_always_the_same_answer_would_reach():
    questions = pd.DataFrame(
        [
            question("r1", "remote", ["yes"]),
            question("r2", "remote", ["no"]),
            question("r3", "remote", ["Yes"]),
            question("r4", "remote", ["no"]),
            question("c1", "common", ["red"] * 10),
            question("c2", "common", ["red"] * 9 + ["blue"]),
            question("c3", "common", ["blue"] * 8 + ["red"] * 2),
            # Equally often: the first by its text.
            question("m1", "medical", ["B"], options=OPTIONS),
            question("m2", "medical", ["A"], options=OPTIONS),
            question("d1", "driving", ["a car", "car"]),
            question("d2", "driving", ["a cat", "a car"]),
            question("d3", "driving", ["a car"]),
        ]
    )
    found = majority_answer(questions).set_index("group")
    assert list(found.index) == ["remote", "common", "medical", "driving"]
    assert found["answer"].tolist() == ["no", "red", "A", "a car"]
    assert found["metric"].tolist() == ["exact", "vqa", "multiple_choice", "exact"]
    assert found["value"].tolist() == pytest.approx([0.5, (1 + 1 + 0.6) / 3, 0.5, 1])
    assert found["n"].tolist() == [4, 3, 2, 3]


# --------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("seed", [0, [7, 1]])
def test_intervals_of_many_columns_are_those_of_each(seed):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(25, 6))
    values[3:, 1], values[:, 2], values[1:, 3] = np.nan, np.nan, np.nan
    values[:5, 4] = np.nan
    low, high = mean_intervals(values, 0.9, 300, seed)
    for column in range(6):
        known = values[~np.isnan(values[:, column]), column]
        table = pd.DataFrame({"sample": range(len(known)), "value": known})
        one = bootstrap_interval(table, "value", "sample", level=0.9, draws=300, seed=seed)
        assert (low[column], high[column]) == pytest.approx(one, nan_ok=True)
    assert np.isnan(low).tolist() == [False, False, True, True, False, False]


def test_without_samples_or_columns_there_are_no_intervals():
    assert np.isnan(mean_intervals(np.zeros((0, 2)))[0]).all()
    assert mean_intervals(np.zeros((3, 0)))[0].shape == (0,)


def test_a_group_that_is_not_among_the_groups_is_refused():
    table = pd.DataFrame([reply("a", "") | {"group": "remote", "value": 1.0}])
    with pytest.raises(ValueError, match="'remote'"):
        sample_means(table, ["common"], ["value"])
    assert sample_means(table, ["common", "remote"], ["value"])["value"].tolist() == [1]


# --------------------------------------------------------------------------------------- deviation


def test_deviation_by_hand():
    rows = [
        ("b-1", "second", "all", "dape", -1, 0.5, 0.4, 0.3, 0.2, 0.1),
        ("b-2", "second", "all", "dape", -1, 0.1, 0.2, np.nan, 0.4, 0.7),
        ("a-1", "first", "all", "dape", -1, 0.0, 0.0, 0.0, 0.0, 0.0),
        ("b-1", "second", "all", "random", 3, 1.0, 1.0, 1.0, 1.0, 1.0),
        ("b-2", "second", "all", "random", 3, 1.0, 1.0, np.nan, 1.0, 1.0),
        ("b-1", "second", "vision", "dape", -1, 0.2, 0.2, 0.2, 0.2, 0.2),
    ]
    columns = ["sample_id", "group", "condition", "control", "seed", *OVER]
    table = deviation_table(pd.DataFrame(rows, columns=columns))
    assert list(table) == DEVIATION_COLUMNS
    assert table["group"].tolist() == ["second"] * 15 + ["first"] * 5
    assert table["condition"].tolist()[:15] == ["vision"] * 5 + ["all"] * 10
    assert table["over"].tolist() == list(OVER) * 4
    own = table[(table["condition"] == "all") & (table["group"] == "second")]
    dape = own[own["control"] == "dape"]
    assert dape["value"].tolist() == pytest.approx([0.3, 0.3, 0.3, 0.3, 0.4])
    assert dape["n"].tolist() == [2, 2, 1, 2, 2]
    assert dape["n_left_out"].tolist() == [0, 0, 1, 0, 0]
    # Two samples: each of the four draws is as likely, so the bounds are the values.
    assert dape["low"].tolist() == pytest.approx([0.1, 0.2, np.nan, 0.2, 0.1], nan_ok=True)
    assert dape["high"].tolist() == pytest.approx([0.5, 0.4, np.nan, 0.4, 0.7], nan_ok=True)
    assert own[own["control"] == "random"]["seed"].tolist() == [3] * 5
    assert (own[own["control"] == "random"]["value"] == 1).all()
    with pytest.raises(ValueError, match="b-1 twice"):
        deviation_table(pd.DataFrame([rows[0], rows[0]], columns=columns))
    assert list(deviation_table(pd.DataFrame(columns=columns))) == DEVIATION_COLUMNS


# ---------------------------------------------------------------------------------- silent neurons


def test_silent_neurons_by_hand():
    counts = {
        "vision": np.array([[0, 1, 0, 0, 0], [0, 0, 0, 2, 0]]),
        "projector": np.zeros((2, 3), int),
    }
    layers, inert = {"vision": [2, 3], "projector": [3]}, {"vision": [1], "projector": []}
    table = silent_table(counts, layers, inert)
    assert table.to_dict("list") == {
        "module": ["vision", "vision", "projector"],
        "layer": [0, 1, 0],
        "n_units": [2, 3, 3],
        "n_silent": [1, 2, 3],
        "inert": [False, True, False],
    }
    assert not silent_table(counts, layers, {})["inert"].any()
    with pytest.raises(ValueError, match="vision: counts of 5 units, layers of 4"):
        silent_table(counts, {"vision": [2, 2]}, {})


@pytest.mark.parametrize("seed", range(5))
def test_silent_neurons_are_those_without_a_count_anywhere(seed):
    rng = np.random.default_rng(seed)
    layers = {"language": rng.integers(1, 6, 4).tolist()}
    counts = rng.binomial(3, 0.2, size=(3, sum(layers["language"])))
    table = silent_table({"language": counts}, layers, {})
    units = iter(counts.T.tolist())
    for row in table.itertuples():
        own = [next(units) for _ in range(row.n_units)]
        assert row.n_silent == sum(unit == [0, 0, 0] for unit in own)
    assert next(units, None) is None


# ----------------------------------------------------------------------------------- the embeddings


def embeddings(vectors):
    names = [f"s{number}" for number in range(len(vectors))]
    table = pd.DataFrame({"sample_id": names, "group": "common"})
    return table.assign(embedding=[np.asarray(vector, np.float32) for vector in vectors])


def test_the_plane_of_points_on_a_cross():
    # Squares of 2 * 18 along the diagonal of the first two axes, 2 * 1 along the third.
    vectors = np.array([[-3, -3, 0], [3, 3, 0], [0, 0, 1], [0, 0, -1]]) + [5, -2, 7]
    plane = principal_plane(embeddings(vectors))
    assert list(plane) == ["sample_id", "group", "x", "y", "explained_x", "explained_y"]
    assert plane["x"].tolist() == pytest.approx([-math.sqrt(18), math.sqrt(18), 0, 0], abs=1e-6)
    assert plane["y"].tolist() == pytest.approx([0, 0, 1, -1], abs=1e-6)
    assert plane["explained_x"].tolist() == pytest.approx([36 / 38] * 4)
    assert plane["explained_y"].tolist() == pytest.approx([2 / 38] * 4)


@pytest.mark.parametrize("seed", range(3))
def test_the_plane_is_that_of_the_covariance_matrix(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, 5)) * [5, 3, 1, 1, 0.5] @ rng.normal(size=(5, 5))
    table = embeddings(vectors)
    plane = principal_plane(table)
    vectors = np.stack(table["embedding"]).astype(float)
    values, axes = np.linalg.eigh(np.cov(vectors.T))
    for name, place in (("x", -1), ("y", -2)):
        axis = axes[:, place] * np.sign(axes[np.abs(axes[:, place]).argmax(), place])
        expected = (vectors - vectors.mean(axis=0)) @ axis
        np.testing.assert_allclose(plane[name], expected, atol=1e-8)
        share = values[place] / values.sum()
        assert plane[f"explained_{name}"].tolist() == pytest.approx([share] * 40)
    # The signs do not depend on the order of the samples, nor does what else there is.
    other = principal_plane(table[::-1]).sort_values("sample_id", ignore_index=True)
    expected = plane.sort_values("sample_id", ignore_index=True)
    pd.testing.assert_frame_equal(other, expected, atol=1e-8)


def test_embeddings_that_span_no_plane():
    columns = ["x", "y", "explained_x", "explained_y"]
    for vectors in ([[1, 2, 3]], [[0.1, 0.2, 0.3]] * 5, [[0, 0], [0, 0]]):
        assert not principal_plane(embeddings(vectors))[columns].to_numpy().any()
    line = principal_plane(embeddings([[1.0], [3.0]]))
    assert line["x"].tolist() == pytest.approx([-1, 1]) and line["explained_x"].tolist() == [1, 1]
    assert not line[["y", "explained_y"]].to_numpy().any()
    assert list(principal_plane(embeddings([])))[2:] == columns
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        principal_plane(embeddings([[1, 2], [1, 2, 3]]))
