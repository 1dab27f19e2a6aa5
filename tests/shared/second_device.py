"""A second device for tests, ``other``, whose tensors the CPU computes but does not share.

What fails on a GPU for its tensors being elsewhere fails here as well: operations on tensors of both devices, and
looking at a tensor's memory (``numpy()``). Speed, memory, numbers of lower precision and several streams are not tested
by it. Import it in a process of its own, before anything is computed: PyTorch knows one such device in a process, and
never forgets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "other"
READS = ["aten::_local_scalar_dense", "aten::nonzero", "aten::equal"]
"""Operations whose result the program waits for: a number, or how many of something there are."""

_aten = torch.ops.aten
_MAY_BE_MIXED = ("index", "index_put", "_index_put_impl")  # an index may lie on the CPU, as with a GPU
_RESHAPES = (_aten.view.default, _aten._unsafe_view.default, _aten._reshape_alias.default)
_KEPT = ("alias", "detach", "lift_fresh", "_fw_primal", "_make_dual")
"""Views that share the storage, by which the values are found."""

_values: dict[int, torch.Tensor] = {}
"""What is in the tensors of this device, on the CPU, by the storage."""

reads: list[str] = []
"""What the program has waited for since the last iteration."""


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class CountReads:
    """Note for each iteration of an engine how often the program waited for the device since the one before.

    Attributes:
        counts: one figure for each iteration, of all engines that it was attached to.
    """

    counts: list[int] = []  # noqa: RUF012

    def attach(self, engine: Engine) -> None:
        """Count in the iterations of this engine, the batch and the handlers that were attached before included."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)

    def _note(self) -> None:
        self.counts.append(len(reads))
        reads.clear()


def _is_here(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def _values_of(tensor: Any) -> Any:
    if not _is_here(tensor):
        return tensor
    values = _values[tensor.untyped_storage()._cdata]
    if values.shape != tensor.shape:
        raise NotImplementedError(f"{tuple(values.shape)} seen as {tuple(tensor.shape)} by strides alone")
    return values


def _placed(values: torch.Tensor) -> torch.Tensor:
    tensor = torch._C._acc.create_empty_tensor(tuple(values.shape), values.dtype)
    _values[tensor.untyped_storage()._cdata] = values
    return tensor


def _compute(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Do an operation of PyTorch on the values, and place what is new on the device."""
    name = operation._schema.name
    tensors = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    here = [tensor for tensor in tensors if _is_here(tensor)]
    if here and name.removeprefix("aten::").rstrip("_") not in _MAY_BE_MIXED:
        for tensor in tensors:
            if not _is_here(tensor) and tensor.dim() > 0:
                raise RuntimeError(f"{name}: tensors of two devices, {NAME} and {tensor.device}")
    if name in READS:
        reads.append(name)
    if operation is _aten.as_strided.default:
        raise NotImplementedError("as_strided: strides of the values are not those of the tensor")
    if operation in _RESHAPES:
        operation, args = _aten.reshape.default, args[:2]
    # where the schema wants a tensor and there is a number, another overload is meant
    wanted = [isinstance(argument.type, torch.TensorType) for argument in operation._schema.arguments]
    if any(isinstance(value, int | float) and tensor for value, tensor in zip(args, wanted, strict=False)):
        operation = operation._overloadpacket
    known = {id(_values_of(tensor)): tensor for tensor in here}
    args, kwargs = pytree.tree_map(_values_of, (args, kwargs))
    kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}

    def returned(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        tensor = known.get(id(value))
        if tensor is None:
            return _placed(value)
        if tensor.shape != value.shape:  # the result of an `out` variant, which began empty
            tensor.data = _placed(value)
        return tensor

    return pytree.tree_map(returned, operation(*args, **kwargs))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if not _is_here(target):
        reads.append("copy")
    _values_of(target).copy_(_values_of(source))
    return target


def _convolution_backward(gradient: Any, image: Any, weight: Any, *args: Any) -> Any:
    operation = _aten.convolution_backward.default
    return _compute(operation, gradient, image, weight, [weight.shape[0]], *args)


def _done_by(operation: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: _compute(operation, *args, **kwargs)


def _register() -> list[torch.library.Library]:
    """Send every operation that PyTorch does not derive from others to :func:`_compute`."""
    rest, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    rest.fallback(_compute, "PrivateUse1")
    own.impl("_copy_from", _copy_from, "PrivateUse1")
    own.impl("convolution_overrideable", _done_by(_aten.convolution.default), "PrivateUse1")
    own.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in torch._C._dispatch_get_all_op_names():
        base, _, overload = name.removeprefix("aten::").partition(".")
        operation = getattr(getattr(_aten, base, None), overload or "default", None)
        if operation is None or not name.startswith("aten::") or base in _KEPT:
            continue
        aliases = (value.alias_info for value in operation._schema.returns)
        is_view = base == "_unsafe_view" or any(alias and not alias.is_write for alias in aliases)
        # what PyTorch would do itself, by strides or by an `out` variant that begins empty
        if has_kernel(name, "CompositeExplicitAutogradNonFunctional") or (
            is_view and has_kernel(name, "CompositeExplicitAutograd")
        ):
            own.impl(name.removeprefix("aten::"), _done_by(operation), "PrivateUse1")
    return [rest, own]


def _save_from_the_cpu(kind: type[torch.Tensor]) -> None:
    """Pickle and copy tensors of the device, whose storages are empty, by their values."""
    copy, reduce = kind.__deepcopy__, kind.__reduce_ex__

    def deepcopy(self: torch.Tensor, memo: dict[int, Any]) -> Any:
        if not _is_here(self):
            return copy(self, memo)
        if id(self) not in memo:
            twin = self.detach().clone()
            memo[id(self)] = torch.nn.Parameter(twin, self.requires_grad) if kind is torch.nn.Parameter else twin
        return memo[id(self)]

    def reduce_ex(self: torch.Tensor, protocol: Any) -> Any:
        if not _is_here(self):
            return reduce(self, protocol)
        values = self.detach().cpu()
        return reduce(torch.nn.Parameter(values) if kind is torch.nn.Parameter else values, protocol)

    kind.__deepcopy__, kind.__reduce_ex__ = deepcopy, reduce_ex  # type: ignore[method-assign, assignment]


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())  # type: ignore[arg-type]
_libraries = _register()
for _kind in (torch.Tensor, torch.nn.Parameter):
    _save_from_the_cpu(_kind)
