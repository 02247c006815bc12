"""Best tokens in a stream against the whole matrix, and how little of it is held at once."""

import numpy as np
import pytest
import torch
from conftest import VOCABULARY
from torch.utils._python_dispatch import TorchDispatchMode

from mmneurons.probe.decode import neuron_tokens, stream_best_tokens, top_tokens


def weights(n_units, n_tokens, hidden, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(hidden, n_units, generator=generator)  # as a Linear layer holds it
    return output.T, torch.randn(n_tokens, hidden, generator=generator)


@pytest.mark.parametrize(
    ("n_units", "n_tokens"), [(40, 1000), (1, 257), (17, 256), (100, 33), (3, 40)]
)
@pytest.mark.parametrize("k", [1, 10])
def test_best_tokens_are_those_of_the_whole_matrix(n_units, n_tokens, k):
    rows, unembedding = weights(n_units, n_tokens, 12)
    best = stream_best_tokens(rows, unembedding, k)
    whole = rows.double().numpy() @ unembedding.double().numpy().T
    order = np.argsort(-whole, axis=1)[:, :k]
    assert best.ids.tolist() == order.tolist()
    values = np.take_along_axis(whole, order, axis=1)
    np.testing.assert_allclose(best.values, values, rtol=1e-5, atol=1e-5)
    sums = np.exp(whole).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(best.probabilities, np.exp(values) / sums, rtol=1e-4)


def test_large_values_do_not_overflow():
    rows, unembedding = weights(5, 300, 12)
    best = stream_best_tokens(rows * 100, unembedding * 100, 3)
    expected = torch.softmax((rows * 100).double() @ (unembedding * 100).double().T, dim=1)
    np.testing.assert_allclose(best.probabilities, expected.topk(3).values, rtol=1e-3, atol=1e-30)


def test_equal_values_are_each_another_token():
    """Values of small whole numbers: every border of pieces has ties."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(-1, 2, (30, 3), generator=generator).float()
    unembedding = torch.randint(-1, 2, (1500, 3), generator=generator).float()
    best = stream_best_tokens(rows, unembedding, 10)
    whole = rows @ unembedding.T
    assert torch.equal(best.values, whole.sort(dim=1, descending=True).values[:, :10])
    assert torch.equal(whole.gather(1, best.ids), best.values)
    assert all(len(set(ids)) == 10 for ids in best.ids.tolist())


def test_a_small_vocabulary_gives_fewer_tokens():
    rows, unembedding = weights(4, 6, 5)
    best = stream_best_tokens(rows, unembedding, 10)
    assert [sorted(ids) for ids in best.ids.tolist()] == [list(range(6))] * 4
    torch.testing.assert_close(best.probabilities.sum(dim=1), torch.ones(4))


class Largest(TorchDispatchMode):
    """The most numbers that one new tensor holds while it is open."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                new = tensor.untyped_storage().data_ptr() not in known
                Largest.n = max(Largest.n, tensor.numel() if new else 0)
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_tensor_comes_near_the_whole_matrix(dtype):
    """The proportions of Llama-2: a vocabulary of 7.8 and an FFN of 2.7 times the hidden size."""
    rows, unembedding = (w.to(dtype) for w in weights(1376, 4000, 512))
    Largest.n = 0
    with Largest():
        stream_best_tokens(rows, unembedding, 10)
    assert 0 < Largest.n <= len(rows) * len(unembedding) / 20


def test_half_precision_weights_are_multiplied_in_float32():
    rows, unembedding = (w.half() for w in weights(20, 400, 64))
    best = stream_best_tokens(rows, unembedding, 5)
    whole = rows.double() @ unembedding.double().T
    np.testing.assert_allclose(best.values, whole.topk(5).values, rtol=1e-5)


def test_every_neuron_of_a_model_has_its_tokens(model):
    table = neuron_tokens(model)
    assert list(table) == [
        *("module", "layer", "unit", "token_ids", "tokens", "values", "probabilities")
    ]
    assert len(table) == 3 * 40 and set(table["module"]) == {"language"}
    for layer, own in table.groupby("layer"):
        texts, probabilities = top_tokens(model, layer, torch.arange(40), 10)
        assert own["unit"].tolist() == list(range(40))
        assert [list(tokens) for tokens in own["tokens"]] == texts
        np.testing.assert_allclose(np.stack(own["probabilities"]), probabilities, rtol=1e-4)
        for row in own.itertuples():
            assert [VOCABULARY[token] for token in row.token_ids] == list(row.tokens)
            direct = (
                model.unembedding()[row.token_ids]
                @ model.sites("language")[layer].output.weight[:, row.unit]
            )
            np.testing.assert_allclose(row.values, direct.detach(), rtol=1e-4, atol=1e-5)


def test_a_module_that_does_not_write_for_the_unembedding(model):
    with pytest.raises(ValueError, match="vision writes vectors of 16 numbers"):
        neuron_tokens(model, module="vision")
    with pytest.raises(ValueError, match="no module projector"):
        neuron_tokens(model, module="projector")
