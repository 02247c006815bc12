"""Two devices that this machine does not have, to see that tensors meet on one device only.

A tensor "on" such a device wraps one of the CPU. The dispatcher hands over every operation on it:
operands on different devices raise an error, as a GPU's would, and results are those of the CPU.
The devices are called lazy:0 and lazy:1, a type that nothing here treats specially.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

FIRST, SECOND = torch.device("lazy:0"), torch.device("lazy:1")
aten = torch.ops.aten
# What takes indices or values from the CPU as well, as on a GPU.
WITH_CPU_INDICES = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


class Placed(torch.Tensor):
    """A tensor of the CPU that says it is somewhere else."""

    @staticmethod
    def __new__(cls, inner, device):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )

    def __init__(self, inner, device):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class _Made(TorchFunctionMode):
    """Tensors of numbers and indices, whose memory is filled before the dispatcher is asked."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "lazy":
            return torch.tensor(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if function is torch.Tensor.__getitem__:
            where = args[1] if isinstance(args[1], tuple) else (args[1],)
            listed = tuple(torch.tensor(i) if isinstance(i, list) else i for i in where)
            args = (args[0], listed)
        return function(*args, **kwargs)


class TwoDevices(TorchDispatchMode):
    """As long as it lasts, tensors can be made on the two devices and moved to them."""

    def __enter__(self):
        self._made = _Made()
        self._made.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._made.__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def run(operation, args, kwargs):
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    places = {t.device for t in tensors if isinstance(t, Placed)}
    plain = [t for t in tensors if not isinstance(t, Placed) and t.dim()]
    wanted = kwargs.get("device")
    if operation is aten.copy_.default:  # the one that may cross
        inner(args[0]).copy_(inner(args[1]))
        return args[0]
    moved = operation is aten._to_copy.default
    indexed = operation in WITH_CPU_INDICES and isinstance(args[0], Placed)
    if len(places) > 1 or (places and plain and not indexed):
        raise RuntimeError(f"{operation}: tensors on {places}, {len(plain)} on the CPU")
    place = torch.device(wanted) if wanted is not None else next(iter(places), torch.device("cpu"))
    if wanted is not None and torch.device(wanted).type == "lazy":
        kwargs = kwargs | {"device": torch.device("cpu")}
    originals = {id(t.inner): t for t in tensors if isinstance(t, Placed)}
    result = operation(*tree_map(inner, args), **tree_map(inner, kwargs))
    if moved and place.type == "cpu" and result is inner(args[0]):
        result = result.clone()

    def wrapped(value):
        if not isinstance(value, torch.Tensor) or place.type != "lazy":
            return value
        return originals.get(id(value)) if id(value) in originals else Placed(value, place)

    return tree_map(wrapped, result)


def inner(value):
    return value.inner if isinstance(value, Placed) else value
