"""Lingo-Judge by tiny checkpoints, against transformers called directly."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from mmneurons.metrics.accuracy import accuracy_table
from mmneurons.metrics.lingo_judge import COLUMNS, LingoJudge, judge_replies

REPOSITORY = Path(__file__).parents[1]
WORDS = "question answer student is there a car in front yes no two left turn : ?".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 160
SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.7,  # so that logits differ visibly
    "num_labels": 1,
}


def write_tokenizer(folder):
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    BertTokenizer(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)


def write_bert(folder, seed=0, **more):
    torch.manual_seed(seed)
    BertForSequenceClassification(BertConfig(**SIZES | more)).save_pretrained(folder)
    write_tokenizer(folder)


def write_deberta(folder):
    """The architecture of the real checkpoint, with a tokenizer that bounds no length."""
    torch.manual_seed(3)
    kind = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
    }
    more = {"position_biased_input": False, "type_vocab_size": 0, "position_buckets": 32}
    config = DebertaV2Config(**SIZES, **kind, **more)
    DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    words = BertTokenizer(vocab=vocabulary).backend_tokenizer
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    special = dict(zip(names, SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)


@pytest.fixture(scope="module", params=["bert", "deberta"])
def checkpoint(request, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    {"bert": write_bert, "deberta": write_deberta}[request.param](folder)
    # About as many right as wrong, and none at the edge.
    logits = np.sort(judge_replies(QUESTIONS, ANSWERS, folder)["logit"])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias -= logits[len(logits) // 2 - 1 :][:2].mean()
    model.save_pretrained(folder)
    return folder


def cases():
    """Questions with one to three references, and replies: short ones, long ones, empty ones."""
    rng = np.random.default_rng(0)

    def text(n):
        return " ".join(rng.choice(WORDS, n))

    questions = pd.DataFrame(
        {
            "sample_id": f"driving-{number}",
            "group": "driving",
            "question": text(6),
            "answer": "",
            "answers": [text(rng.integers(1, 9)) for _ in range(1 + number % 3)],
            "confidence": [],
            "options": [],
            "metric": "lingo_judge",
        }
        for number in range(12)
    )
    lengths = [1, 3, 12, 90, 130, 190]
    answers = pd.DataFrame(
        {"sample_id": name, "condition": condition, "control": "", "seed": -1, "reply": reply}
        for name in questions["sample_id"]
        for condition in ("none", "all")
        for reply in [text(rng.choice(lengths))]
    )
    answers.loc[3, "reply"] = ""
    answers.loc[5, "reply"] = answers.loc[4, "reply"]
    answers.loc[6, "reply"] = "Zw\u00f6lf \u718a\u718a, \U0001f697!"
    return questions, answers


QUESTIONS, ANSWERS = cases()


@cache
def loaded(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    return tokenizer, model, pipeline("text-classification", model=model, tokenizer=tokenizer)


def direct(checkpoint, question, reference, reply):
    """Official logit and released score of one text, as the two scorers call transformers.

    And how many tokens it has.
    """
    tokenizer, model, classify = loaded(checkpoint)
    text = f"[CLS]\nQuestion: {question}\nAnswer: {reference}\nStudent: {reply}"
    cut = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
    with torch.no_grad():
        logit = model(**cut).logits.item()
    (found,) = classify(text, truncation=True, max_length=POSITIONS)
    return logit, found["score"], len(tokenizer(text).input_ids)


def test_scores_are_those_of_transformers_called_directly(checkpoint):
    judged = judge_replies(QUESTIONS, ANSWERS, checkpoint, batch_size=5)
    assert list(judged) == COLUMNS
    texts = QUESTIONS.set_index("sample_id")["question"]
    lengths = []
    for row in judged.itertuples():
        expected = direct(checkpoint, texts[row.sample_id], row.reference, row.reply)
        assert (row.logit, row.score) == pytest.approx(expected[:2], abs=1e-4)
        lengths.append(expected[2])
    lengths = np.array(lengths)
    assert (lengths < 128).any() and (lengths > POSITIONS).any()
    assert ((lengths > 128) & (lengths < POSITIONS)).any()
    # Short texts have the same verdict by both scorers; of long ones the end is cut off.
    sigmoid = 1 / (1 + np.exp(-judged["logit"]))
    changed = np.abs(sigmoid - judged["score"]) > 1e-3
    assert changed[lengths > 128].any() and not changed[lengths <= 128].any()
    assert (judged["logit"] > 0).any() and (judged["logit"] < 0).any()


def test_the_text_that_the_judge_reads(checkpoint):
    """Word by word: tiny tokenizers do not tell one white space from another, real ones do."""
    judge, read = LingoJudge(checkpoint), []
    tokenizer = judge.tokenizer

    class Recorder:
        cls_token, pad = tokenizer.cls_token, tokenizer.pad

        def __call__(self, text, **options):
            read.append((text, options))
            return tokenizer(text, **options)

    judge.tokenizer = Recorder()
    judge.judge(["Is there a car?"], ["Yes, one."], ["no"])
    text = "[CLS]\nQuestion: Is there a car?\nAnswer: Yes, one.\nStudent: no"
    lengths = ({"truncation": True, "max_length": n} for n in (128, POSITIONS))
    assert read == [(text, options) for options in lengths]


def test_every_different_reply_is_judged_once_with_every_reference(checkpoint):
    judged = judge_replies(QUESTIONS, ANSWERS, checkpoint)
    references = QUESTIONS.set_index("sample_id")["answers"]
    pairs = {(row.sample_id, row.reply) for row in ANSWERS.itertuples() if row.reply}
    expected = {(name, reply, text) for name, reply in pairs for text in references[name]}
    found = list(judged[["sample_id", "reply", "reference"]].itertuples(index=False, name=None))
    assert found == sorted(expected)
    other = judge_replies(QUESTIONS[::-1], ANSWERS.sample(frac=1), checkpoint, batch_size=1)
    pd.testing.assert_frame_equal(other, judged, atol=1e-4)


def test_only_questions_of_the_judge_are_judged(checkpoint):
    questions = QUESTIONS.copy()
    questions.loc[1:, "metric"] = "exact"
    judged = judge_replies(questions, ANSWERS, checkpoint)
    assert set(judged["sample_id"]) == {"driving-0"}
    for nothing in ((QUESTIONS, ANSWERS.iloc[:0]), (questions.iloc[1:], ANSWERS)):
        assert judge_replies(*nothing, checkpoint).empty
    for references in ([], ["", " "]):
        asked = QUESTIONS.iloc[:1].assign(answers=[references])
        assert judge_replies(asked, ANSWERS, checkpoint).empty


def test_accuracy_by_the_judge(checkpoint):
    judged = judge_replies(QUESTIONS, ANSWERS, checkpoint)
    table = accuracy_table(QUESTIONS, ANSWERS, judged, draws=10)
    texts = QUESTIONS.set_index("sample_id")
    for condition in ("none", "all"):
        official, released = [], []
        for row in ANSWERS[ANSWERS["condition"] == condition].itertuples():
            asked = texts.loc[row.sample_id]
            own = [direct(checkpoint, asked["question"], a, row.reply) for a in asked["answers"]]
            official.append(bool(row.reply) and max(logit for logit, _, _ in own) > 0)
            released.append(bool(row.reply) and any(score > 0.5 for _, score, _ in own))
        own = table[table["condition"] == condition].set_index("variant")["value"]
        assert own["official"] == pytest.approx(np.mean(official))
        assert own["released"] == pytest.approx(np.mean(released))
        assert 0 < own["official"] < 1


def write_judge_of_yes(folder):
    """Weights by hand: a logit of 2 tanh(sqrt(15)) - 1 where "yes" stands anywhere, else of -1.

    Of all embeddings only that of "yes" is not zero: its layer norm is v = (15, -1, ..., -1) over
    sqrt(15). Attention without queries and keys is the mean over all tokens, v over their number,
    and the layer norm after it makes v of it again.
    """
    write_bert(folder, num_hidden_layers=1)
    model = BertForSequenceClassification.from_pretrained(folder)
    yes = BertTokenizer.from_pretrained(folder).convert_tokens_to_ids("yes")
    bert, (layer,) = model.bert, model.bert.encoder.layer
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for norm in (bert.embeddings, layer.attention.output, layer.output):
            norm.LayerNorm.weight.fill_(1)
        for dense in (layer.attention.self.value, layer.attention.output.dense, bert.pooler.dense):
            dense.weight.copy_(torch.eye(16))
        bert.embeddings.word_embeddings.weight[yes, 0] = 1
        model.classifier.weight[0, 0] = 2
        model.classifier.bias.fill_(-1)
    model.save_pretrained(folder)


def test_a_judge_by_hand(tmp_path):
    write_judge_of_yes(tmp_path)
    questions = QUESTIONS.iloc[:4].assign(question="is there a car ?")
    questions["answers"] = [["no"], ["no", "two yes"], ["no"], ["no"]]
    late = "no " * 120 + "yes"
    replies = dict(zip(questions["sample_id"], ["yes", "no", "no", late], strict=True))
    trial = {"condition": "none", "control": "", "seed": -1}
    answers = pd.DataFrame({"sample_id": k, "reply": v} | trial for k, v in replies.items())
    judged = judge_replies(questions, answers, tmp_path)
    right = 2 * np.tanh(15**0.5) - 1
    assert judged["reference"].tolist() == ["no", "no", "two yes", "no", "no"]
    assert judged["logit"].tolist() == pytest.approx([right, -1, right, -1, -1], abs=1e-4)
    # Behind the official scorer's last token there is a "yes", which the released code reads.
    scores = 1 / (1 + np.exp([-right, 1, -right, 1, -right]))
    assert judged["score"].tolist() == pytest.approx(scores, abs=1e-4)
    table = accuracy_table(questions, answers, judged, draws=10)
    assert table["value"].tolist() == [0.5, 0.75]


def test_what_is_no_judge_is_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"no Lingo-Judge checkpoint in {tmp_path}")):
        LingoJudge(tmp_path)
    write_bert(tmp_path, num_labels=2)
    with pytest.raises(ValueError, match="2 labels"):
        LingoJudge(tmp_path)


def test_a_tokenizer_without_words_is_noticed(tmp_path):
    write_bert(tmp_path)
    BertTokenizer(vocab={word: place for place, word in enumerate(SPECIAL)}).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="knows no word"):
        LingoJudge(tmp_path)


def test_only_the_judge_needs_torch():
    modules = ("answers", "accuracy", "deviation", "silent", "pca", "trials")
    lines = [f"import mmneurons.metrics.{name}" for name in modules]
    program = "; ".join(["import sys", *lines, "assert 'torch' not in sys.modules"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY / "scripts", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
