"""Half precision, several GPUs and 8 bits: what the libraries are asked for, and what follows."""

import copy
import importlib

import numpy as np
import pandas as pd
import pytest
import qwen_world
import test_llava
import torch
from accelerate import dispatch_model
from family_kit import CASES
from PIL import Image
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module
from two_devices import FIRST, SECOND, TwoDevices

from mmneurons.interventions.deactivate import deactivated
from mmneurons.interventions.edit import (
    EditSettings,
    Occurrence,
    best_neurons,
    edited,
    find_edits,
)
from mmneurons.interventions.noise import image_noise
from mmneurons.interventions.replies import Asked, Trial, reply_under
from mmneurons.interventions.weights import changed_rows, changed_rows_each
from mmneurons.models import devices, loading
from mmneurons.models.base import GREEDY
from mmneurons.models.devices import Gpu, NoDeviceError
from mmneurons.models.loading import LoadingError, number_format, placement
from mmneurons.models.registry import ADAPTERS, ModelEntry, load_model
from mmneurons.probe.contribution import PanSettings, record_pictures
from mmneurons.probe.counts import ActivationCounter
from mmneurons.probe.decode import neuron_tokens, top_tokens
from mmneurons.probe.gradcam import gradcam_map
from mmneurons.probe.lens import read_stream
from mmneurons.probe.two_stage import Case, record_group


@pytest.fixture
def gpus(monkeypatch):
    """Three GPUs that torch would see, and none of them claimed."""
    found = [Gpu(n, f"made-up-{n}") for n in range(3)]
    monkeypatch.setattr(devices, "visible_gpus", lambda: found)
    monkeypatch.setattr(devices, "free_memory", lambda: {"made-up-2": 9, "made-up-0": 5})
    monkeypatch.setattr(torch.cuda, "set_device", lambda _index: None)
    monkeypatch.setattr(devices, "CLAIMS", {})
    yield found
    for holder in devices.CLAIMS.values():
        holder.close()


@pytest.fixture
def with_bitsandbytes(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: object())


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(2)
    return [
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((30, 20))
        for _ in range(3)
    ]


# ------------------------------------------------------------ what from_pretrained is asked for


class Stop(Exception):
    """Carries the arguments of `from_pretrained` out of the adapter."""


@pytest.mark.parametrize("family", ADAPTERS)
def test_settings_arrive_at_from_pretrained(family, tmp_path, monkeypatch, gpus, with_bitsandbytes):
    CASES[family].save(tmp_path)

    def asked(_cls, path, **arguments):
        raise Stop({"path": path, **arguments})

    adapter = importlib.import_module(ADAPTERS[family][0])
    network = adapter.__dict__.get(type(CASES[family].build().network).__name__)
    monkeypatch.setattr(network, "from_pretrained", classmethod(asked))
    entry = ModelEntry("tiny", family, tmp_path, "", "tiny")

    def arguments(*settings):
        with pytest.raises(Stop) as raised:
            load_model(entry, *settings)
        (found,) = raised.value.args
        assert found.pop("path") == tmp_path
        return {k: v for k, v in found.items() if k not in ("output_loading_info", "config")}

    assert arguments("cpu", "bfloat16") == {"dtype": torch.bfloat16}
    assert arguments("auto", "float16", "balanced") == {
        "dtype": torch.float16,
        "device_map": "balanced",
    }
    assert arguments("auto", "float16", {"": 1, "lm_head": 2})["device_map"] == {
        "": "cuda:1",
        "lm_head": "cuda:2",
    }
    quantised = arguments("cuda", "float16", None, "8bit")
    assert quantised["device_map"] == {"": "cuda:0"}
    config = quantised["quantization_config"]
    assert config.load_in_8bit and not config.load_in_4bit
    together = arguments("cuda", "bfloat16", "auto", "8bit")
    assert together["device_map"] == "auto" and together["dtype"] == torch.bfloat16
    assert together["quantization_config"].to_dict() == config.to_dict()


@pytest.mark.parametrize("family", ADAPTERS)
def test_only_the_decoders_layers_are_quantised(family, with_bitsandbytes):
    """By transformers' own reading of what is to be left out."""
    model = CASES[family].build()
    _home, arguments = placement("cpu", torch.float16, None, "8bit", model.kept_precise)
    skipped = arguments["quantization_config"].llm_int8_skip_modules
    linear = {n: m for n, m in model.network.named_modules() if isinstance(m, nn.Linear)}
    found = {name for name in linear if should_convert_module(name, skipped)}
    inside = {id(m) for layer in model.blocks() for m in layer.modules()}
    assert found == {name for name, module in linear.items() if id(module) in inside}
    assert found < linear.keys()


def test_placements_of_one_device_ask_nothing(gpus):
    assert placement("cpu", torch.float32) == ("cpu", {})
    assert placement("auto", torch.float16) == ("cuda:2", {})


def test_a_model_over_several_gpus_holds_them_all(gpus):
    assert placement("auto", torch.float16, "auto") == ("cuda:0", {"device_map": "auto"})
    assert set(devices.CLAIMS) == {gpu.uuid for gpu in gpus}
    assert placement("cpu", torch.float32, "auto") == ("cpu", {"device_map": {"": "cpu"}})


def test_a_table_of_parts_holds_the_gpus_that_it_names(gpus):
    home, arguments = placement("auto", torch.float16, {"": 1, "lm_head": "cuda:2"})
    assert home == "cuda:1" and arguments["device_map"] == {"": "cuda:1", "lm_head": "cuda:2"}
    assert set(devices.CLAIMS) == {"made-up-1", "made-up-2"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (("cpu", torch.float16, "everywhere"), LoadingError, "'everywhere', not one of"),
        (("cpu", torch.float16, {"": "disk"}), LoadingError, "on 'disk', not a GPU's number"),
        (("cpu", torch.float16, {"": "cuda:one"}), LoadingError, "not a GPU's number or cpu"),
        (("cpu", torch.float16, {"": 7}), NoDeviceError, "there is no GPU 7: torch sees 3"),
        (("cpu", torch.float16, None, "4bit"), LoadingError, "'4bit', not null or 8bit"),
        (("cpu", torch.float32, None, "8bit"), LoadingError, "float16 or bfloat16"),
    ],
)
def test_ways_of_loading_that_cannot_work_are_errors(settings, error, message, gpus):
    with pytest.raises(error, match=message):
        placement(*settings)


def test_gpus_that_other_jobs_hold_are_not_spread_over(gpus, monkeypatch):
    monkeypatch.setattr(devices, "claim", lambda uuid: uuid != "made-up-1")
    with pytest.raises(NoDeviceError, match="--resources gpu=1"):
        placement("auto", torch.float16, "auto")


def test_without_gpus(monkeypatch, caplog):
    monkeypatch.setattr(devices, "visible_gpus", list)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0,1")
    assert placement("auto", torch.float32, "auto") == ("cpu", {"device_map": {"": "cpu"}})
    assert "RUNS ON THE CPU" in caplog.text and "SLURM_JOB_GPUS=0,1" in caplog.text
    with pytest.raises(NoDeviceError, match="finds no GPU"):
        placement("cuda", torch.float16, "auto")


def test_8_bits_without_the_package_are_an_error(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(LoadingError, match="bitsandbytes, which is not installed"):
        placement("cpu", torch.float16, None, "8bit")


def test_what_runs_say_of_their_numbers():
    assert number_format({"dtype": "float16", "quantization": None}) == "float16"
    assert number_format({"dtype": "float16"}) == "float16"
    assert number_format({"dtype": "bfloat16", "quantization": "8bit"}) == (
        "bfloat16, decoder in 8 bits"
    )


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    """As accelerate leaves it: the last layer's part on disk."""
    network = test_llava.build_network()
    spread = {"model": "cpu", "lm_head": "disk"}
    network = dispatch_model(network, spread, main_device="cpu", offload_dir=tmp_path)
    with pytest.raises(LoadingError, match="does not fit the GPUs: lm_head, model would stay"):
        test_llava.Llava(network, test_llava.build_tokenizer(), None, "cpu")


# -------------------------------------------------------------------------- on several devices


def over_two_devices(model):
    """The same model behind accelerate's hooks, cut before the decoder's last layer."""
    network = copy.deepcopy(model.network)
    layers = model.blocks()
    second = {id(layers[-1]), id(model.final_norm()), id(model.decoder.lm_head)}
    spread, cut = {}, ["$"]  # parts that are placed, and beginnings of their parts' names
    for name, module in model.network.named_modules():
        parts = {id(part) for part in module.modules()}
        if (
            name
            and not name.startswith(tuple(cut))
            and (id(module) in second or not parts & second)
        ):
            spread[name] = str(SECOND if id(module) in second else FIRST)
            cut.append(f"{name}.")
    # Weights that stand outside of all modules, such as query tokens.
    lone = [name for name in network.state_dict() if not name.startswith((*cut, *spread))]
    return around(model, dispatch_model(network, spread | dict.fromkeys(lone, str(FIRST))), "cpu")


def around(model, network, device):
    """An adapter of the same parts around another network."""
    names = [n for n in ("qformer_tokenizer", "image_processor") if hasattr(model, n)]
    given = {name: getattr(model, name) for name in names}
    return type(model)(network, model.tokenizer, **given, device=device)


def plain(value):
    """Tensors as arrays and tables as they are, for comparisons."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()  # numpy has no bfloat16
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value


def everything(model, case, pictures, folder):
    """Results of all that is done with a model, by name."""
    short, long = case.prompts
    found = {}
    encoded = model.encode(model.embed_pictures(pictures, short), short)
    found["states"] = plain(model.final_states(encoded))
    found["generated"] = model.generate(encoded, 5)
    words = found["generated"][0] or [5]
    cases = [Case(pictures[0], pictures[1], words[:1], 6), Case(pictures[2], pictures[2], [], 5)]
    found |= record_group(model, short, cases, ["act", "post"], 6, batch_size=2)
    counted = ActivationCounter(model).count(pictures, [short, long, short])
    found |= {f"counts {module}": plain(n) for module, n in counted.counts.items()}
    found |= {f"tokens {module}": plain(n) for module, n in counted.tokens.items()}
    reading = read_stream(model, encoded, [(0, 2), (1, -1)], 3)
    found |= {f"lens {name}": plain(value) for name, value in vars(reading).items()}
    found["words"] = neuron_tokens(model, 3)["values"].map(list).tolist()
    found["top"] = top_tokens(model, 1, torch.tensor([0, 3]), 2)[0]
    neurons = np.array([[0, 1], [1, 2]])
    hidden = model.unembedding().shape[1]
    delta = torch.linspace(-1, 1, 2 * hidden).view(2, hidden)
    n_image = encoded.image.shape[1]
    noise = torch.linspace(-3, 3, 3 * 2 * n_image).view(3, 2, n_image)
    silent = pd.DataFrame(
        [
            (module, layer, unit)
            for module, layer in (("language", 0), ("language", 1), ("vision", 0))
            for unit in (0, 3)
            if model.sites(module)
        ],
        columns=["module", "layer", "unit"],
    )
    changes = {
        "rows": changed_rows(model, neurons, delta),
        "rows each": changed_rows_each(
            model, np.stack([neurons] * 3), torch.stack([delta, -delta, 0 * delta])
        ),
        "noise": image_noise(model, encoded, neurons, noise, "act"),
        "silence": deactivated(model, [silent[silent["module"] == "language"]]),
    }
    before = found["states"]
    for name, change in changes.items():
        with change, torch.no_grad():
            found[name] = plain(model.final_states(encoded))
        assert np.abs(found[name] - before).max() > 1e-3, name
    with torch.no_grad():
        assert np.array_equal(plain(model.final_states(encoded)), before)
    image_tokens = model.embed_pictures(pictures[:1], short)[0]
    occurrence = Occurrence(image_tokens, short, [], words[:1], 5)
    edits = find_edits(
        model, occurrence, [7], False,
        lambda _place, token, active: best_neurons(model, active, token, 3),
        "act", EditSettings(0.1, "median", 0.1, 5),
    )  # fmt: skip
    found["edit"] = plain(edits[0].delta), edits[0].neurons
    with edited(model, edits), torch.no_grad():
        found["edited"] = plain(model.final_states(encoded))
    questions = [Asked(str(n), "a", p, short) for n, p in enumerate(pictures[:2])]
    trials = [Trial("none", "", -1, silent[:0]), Trial("all", "dape", -1, silent)]
    found["replies"], moved = reply_under(model, questions, trials, 3, GREEDY, 4)
    found["moved"] = [[row[name] for name in ("all_tokens", "per_token")] for row in moved]
    prompt = {"template": short.replace("{", "{{") + "{prefix}", "instruction": "", "prefix": ""}
    settings = PanSettings(max_new_tokens=4, top_k=[1, 4], seed=1, gradient_rows=2, n_tokens=3)
    pan = record_pictures(model, prompt, [folder], first_words, settings)
    found |= {f"pan {name}": own.to_dict("list") for name, own in pan.tables.items()}
    return found | {f"pan {name}": own for name, own in pan.maps.items()}


def first_words(caption, token_ids, token_ends):
    """The first two different tokens are concepts."""
    places = [place for place, token in enumerate(token_ids) if token not in token_ids[:place]][:2]
    return [
        {"group": f"g{token_ids[p]}", "position": p, "token": token_ids[p], "n_tokens": 1,
         "start": 0, "end": token_ends[p]}
        for p in places
    ], []  # fmt: skip


@pytest.fixture(scope="module")
def files(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
    return [(path.stem, path) for path in sorted(folder.iterdir())]


def same(one, other, name):
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            same(one[key], other[key], f"{name} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for a, b in zip(one, other, strict=True):
            same(a, b, name)
    else:
        assert one == other or (one != one and other != other), name


def over_one_and_two(family):
    """Models of the same weights on a single made-up device and over two.

    Attention is spelled out, since which one is fused hangs on the device.
    """
    torch.set_num_threads(1)
    model = CASES[family].build()
    model.network.set_attn_implementation("eager")
    single = around(model, copy.deepcopy(model.network), FIRST)
    both = over_two_devices(model)
    places = [site.output.weight.device for site in both.sites("language")]
    assert places[0] == FIRST and places[-1] == SECOND == both.unembedding().device
    assert both.device == single.device == FIRST
    return single, both


@pytest.mark.parametrize("family", ADAPTERS)
def test_a_model_over_two_devices_sees_and_says_the_same(family, pictures):
    """Tensors refuse to meet across devices; the arithmetic is the CPU's, so that bits agree."""
    prompt = CASES[family].prompts[0]
    with TwoDevices():
        found = []
        for model in over_one_and_two(family):
            model.check()
            encoded = model.encode(model.embed_pictures(pictures, prompt), prompt)
            own = [model.generate(encoded, 3), plain(model.final_states(encoded))]
            own += [plain(model.patch_weights(pictures, prompt))]
            own += [gradcam_map(model, prompt, pictures[0], [], 6)]
            found.append(own)
    same(*found, family)


def test_every_method_gives_the_same_bits_over_two_devices(pictures, files):
    with TwoDevices():
        expected, found = (
            everything(model, CASES["qwen2_5_vl"], pictures, files)
            for model in over_one_and_two("qwen2_5_vl")
        )
    same(expected, found, "qwen2_5_vl")


# --------------------------------------------------------------------------------- half precision


def finite(value, name):
    """How many numbers there are, of which all have to be finite."""
    if isinstance(value, dict):
        return sum(finite(own, f"{name} {key}") for key, own in value.items())
    if isinstance(value, list | tuple):
        return sum(finite(own, name) for own in value)
    if isinstance(value, float | np.ndarray | np.generic):
        values = np.asarray(value)
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name
        return values.size
    return 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ADAPTERS)
def test_every_method_runs_in_half_precision(family, dtype, pictures, files):
    torch.set_num_threads(1)
    model, case = CASES[family].build(), CASES[family]
    encoded = model.encode(model.embed_pictures(pictures, case.prompts[0]), case.prompts[0])
    precise, real = model.final_states(encoded), encoded.mask.bool()
    model.network.to(dtype)
    assert model.dtype == dtype
    found = everything(model, case, pictures, files)
    assert finite(found, family) > 1000
    rounded = torch.from_numpy(found["states"]).float()
    difference = (rounded - precise)[real].norm() / precise[real].norm()
    assert 0 < difference < 0.1


# -------------------------------------------------------------------------------------- 8 bits


def test_what_would_change_8_bit_weights_is_refused():
    model = qwen_world.build()
    for site in model.sites("language"):
        whole = site.output.weight.detach().mul(9).round().to(torch.int8)
        site.output.weight = nn.Parameter(whole, requires_grad=False)
    neurons, delta = np.array([[0, 1]]), torch.ones(1, 32)
    for change in (
        changed_rows(model, neurons, delta),
        changed_rows_each(model, neurons[None], delta[None]),
    ):
        with pytest.raises(LoadingError, match="8 bits cannot be changed"), change:
            pass


def test_a_decoder_in_8_bits_on_the_cpu(pictures, tmp_path):
    """With bitsandbytes, where it is installed; the lock leaves it out."""
    pytest.importorskip("bitsandbytes")
    model = qwen_world.build()
    model.save(tmp_path)
    entry = ModelEntry("tiny", "qwen2_5_vl", tmp_path, "", "tiny", {"language": 120})
    other = load_model(entry, "cpu", "bfloat16", None, "8bit")
    assert other.dtype == torch.bfloat16
    for site, plain_site in zip(other.sites("language"), model.sites("language"), strict=True):
        assert site.output.weight.dtype == torch.int8
        rows, wanted = site.output_rows().float(), plain_site.output_rows()
        assert (rows - wanted).abs().max() < 0.01 * wanted.abs().max()
    case = [Case(pictures[0], pictures[1], [], 6)]
    found, wanted = (record_group(m, qwen_world.SHORT, case, ["act"], 6, 1) for m in (other, model))
    for name in ("act/contribution", "attribution"):
        assert np.corrcoef(found[name].ravel(), wanted[name].ravel())[0, 1] > 0.9, name
