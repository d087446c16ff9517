"""A model as a graph that can be rewritten: `torch.fx`, following control flow as the given inputs do."""

from __future__ import annotations

import itertools
import math
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from dlstudio.explain.inspection.functions import ACTIVATIONS, plain_name
from dlstudio.explain.inspection.twins import as_windows, is_activation, module_for, own, sides, twin_of, windows

__all__ = ["Graph", "NotTraced", "traced"]

_INLINE = "inline_"
_POOLS = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    **{f"{name}_": name for name in ("add", "sub", "mul", "div", "clamp", "neg", "exp", "masked_fill")},
}
_SHAPES = frozenset({"size", "dim", "numel", "shape", "ndim", "dtype", "device", "is_floating_point", "is_cuda"})


_BEFORE_TRACING = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
"""While it traces, `torch.fx` exchanges these for its own, which hand out symbols."""


def _set_on_modules(methods: dict[str, Any]) -> None:
    for name, method in methods.items():
        setattr(nn.Module, name, method)


class NotTraced(Exception):
    """The model cannot be written down as a graph; the message says why."""


class _Symbol(fx.Proxy):
    """A symbol that tells ``x += y`` from ``x = x + y``."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    """Traces with as many symbols as there are arguments, keeps in-line modules, and asks the inputs at a branch."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.arguments = arguments
        self.known: dict[fx.Node, Any] = {}

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        symbols = [self.create_proxy("placeholder", f"input_{i}", (), {}) for i in range(len(self.arguments))]
        for symbol, value in zip(symbols, self.arguments, strict=True):
            self.known[symbol.node] = value
        return root_fn, [self.root, *symbols]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Symbol(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, torch.jit.ScriptModule) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if all(m is not part for part in self.root.modules()):
            name = next(name for i in itertools.count() if not hasattr(self.root, name := f"{_INLINE}{i}"))
            self.root.add_module(name, m)
            self.submodule_paths = {part: path for path, part in self.root.named_modules()}
        return super().call_module(m, forward, args, kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if not _is_about_shape(obj.node):
            raise NotTraced("its way through the code depends on the values of its inputs")
        return bool(self.value_of(obj.node))

    def iter(self, obj: fx.Proxy) -> Any:
        try:
            return super().iter(obj)
        except fx.proxy.TraceError:
            return iter([operator.getitem(obj, i) for i in range(len(self.value_of(obj.node)))])

    def value_of(self, node: fx.Node) -> Any:
        """Compute what a node stands for, for the given inputs."""
        if node not in self.known:
            args, kwargs = fx.map_arg(node.args, self.value_of), fx.map_arg(node.kwargs, self.value_of)
            while_tracing = {name: getattr(nn.Module, name) for name in _BEFORE_TRACING}
            _set_on_modules(_BEFORE_TRACING)
            try:
                self.known[node] = _run(self.root, node, args, kwargs)
            finally:
                _set_on_modules(while_tracing)
        return self.known[node]


def _run(root: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return root.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(root)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "call_function" and callable(node.target):
        return node.target(*args, **kwargs)
    return args[0]


def _asks_shape(node: fx.Node) -> bool:
    return node.target in _SHAPES or (node.target is getattr and node.args[1] in _SHAPES)


def _is_about_shape(node: fx.Node) -> bool:
    """Whether a value follows from shapes and types alone, so that it is the same for all inputs of that form."""
    if node.op == "get_attr" or _asks_shape(node):
        return True
    return bool(node.all_input_nodes) and all(map(_is_about_shape, node.all_input_nodes))


def traced(module: nn.Module, arguments: tuple[Any, ...]) -> Graph:
    """Write a model down as a graph over a twin of it.

    Raises:
        NotTraced: it cannot be.
    """
    tracer = _Tracer(tuple(item.clone() if isinstance(item, torch.Tensor) else item for item in arguments))
    try:
        twin = twin_of(module)
        graph = tracer.trace(twin)
    except NotTraced:
        raise
    except Exception as error:  # whatever foreign code raises when it is handed symbols for numbers
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise NotTraced(f"it cannot be written down as a graph ({text})") from error
    return Graph(twin, graph, type(module).__name__, arguments)


class Graph:
    """A traced model under rewriting.

    Attributes:
        changes: what was changed so far, in words, each once.
    """

    def __init__(self, twin: nn.Module, graph: fx.Graph, name: str, arguments: tuple[Any, ...]) -> None:
        self.twin, self.graph, self.name, self.arguments = twin, graph, name, arguments
        self.changes: dict[str, None] = {}

    def module(self) -> nn.Module:
        """Return the graph as a model."""
        built = fx.GraphModule(self.twin, self.graph, self.name)
        built.graph.eliminate_dead_code()
        built.recompile()
        built.delete_all_unused_submodules()
        return built.eval()

    def give_modules(self) -> None:
        """Make every call of an activation, and every further call of a layer, a module of its own."""
        seen: Counter[str] = Counter()
        for node in list(self.graph.nodes):
            if node.op == "call_module":
                self._own_module(node, seen)
            elif node.op in {"call_function", "call_method"}:
                self._own_function(node)

    def _own_module(self, node: fx.Node, seen: Counter[str]) -> None:
        path = str(node.target)
        part = self._part(node)
        source = node.args[0] if node.args else None
        if isinstance(part, (nn.Identity, nn.Dropout, nn.Flatten)) and isinstance(source, fx.Node):
            # LRP has no rule for some of these, although they change no number.
            if isinstance(part, nn.Flatten):
                self._exchange(node, torch.flatten, (source, part.start_dim, part.end_dim))
                self.changes[f"{path} became a function"] = None
            else:
                node.replace_all_uses_with(source)
                self.graph.erase_node(node)
                self.changes[f"{path}, which does nothing here, was left out"] = None
            return
        seen[path] += 1
        if is_activation(part) and getattr(part, "inplace", False):
            self._read_result_later(node)
            self.twin.set_submodule(path, own(part))
            self.changes[f"{path} no longer overwrites its input"] = None
        if seen[path] > 1:
            node.target = self._add(f"{path}_call_{seen[path]}", own(self._part(node)))
            self.changes[f"{path} became a module of its own for every call"] = None
        elif path.startswith(_INLINE):
            self.changes[f"{type(part).__name__} made in {_where(node)} became a module"] = None

    def _own_function(self, node: fx.Node) -> None:
        name, in_place = plain_name(_raw_name(node))
        if name != "setitem" and (in_place or node.target in _OUT_OF_PLACE or node.kwargs.get("inplace")):
            self._read_result_later(node)
        made = module_for(name, node)
        if made is not None:
            self.changes[f"{name} in {_where(node)} became a module"] = None
            self._exchange(node, made, (node.args[0] if node.args else node.kwargs["input"],), f"{name}_module")
        elif node.target in _OUT_OF_PLACE:
            self.changes[f"{name} in {_where(node)} no longer overwrites its input"] = None
            node.target = _OUT_OF_PLACE[node.target]

    def add_by_modules(self) -> None:
        """Make sums of two branches modules, as LRP shares relevance among what a module takes in."""
        from captum.attr._utils.custom_modules import Addition_Module

        depending, values = self._values()
        for node in list(self.graph.nodes):
            if node.target not in {operator.add, torch.add, "add"} or node.kwargs or len(node.args) != 2:
                continue
            terms = [values[term] for term in node.args if isinstance(term, fx.Node) and term in depending]
            if len(terms) == 2 and all(isinstance(term, torch.Tensor) and term.is_floating_point() for term in terms):
                self.changes[f"a sum in {_where(node)} became a module"] = None
                self._exchange(node, Addition_Module(), node.args, "sum_module")

    def give_own_inputs(self) -> None:
        """Part what several operations read, and what leaves one module for the next, so that hooks do not mix."""
        for node in [node for node in self.graph.nodes if node.op == "call_module"]:
            part = self._part(node)
            if type(part) in _POOLS and self._lay_side_by_side(node, part):
                continue
            for source in dict.fromkeys(node.args):
                if not isinstance(source, fx.Node):
                    continue
                adjacent = source.op == "call_module" and is_activation(self._part(source)) and is_activation(part)
                if adjacent or len(source.users) > 1:
                    with self.graph.inserting_before(node):
                        copied = self.graph.call_method("clone", (source,))
                    node.replace_input_with(source, copied)
                    self.changes[f"{node.target} got an input of its own"] = None

    def _lay_side_by_side(self, node: fx.Node, part: Any) -> bool:
        """Pool over a list of windows where windows overlap or have holes: unpooling knows whole windows only."""
        names = ("kernel_size", "stride", "padding", "dilation")
        size, stride, padding, dilation = (sides(getattr(part, name), _POOLS[type(part)]) for name in names)
        plain = all(step >= width for step, width in zip(stride, size, strict=True)) and max(dilation) == 1
        if plain or part.return_indices or not isinstance(node.args[0], fx.Node):
            return False
        with self.graph.inserting_before(node):
            settings = (size, stride, padding, dilation, part.ceil_mode)
            listed = self.graph.call_function(windows, (node.args[0], *settings))
            rows = self.graph.call_function(torch.flatten, (listed, 1, -2))
            pool = nn.MaxPool1d(math.prod(size))
            pooled = self.graph.call_module(self._add(f"{node.target}_windows", pool), (rows,))
        self._exchange(node, as_windows, (pooled, listed))
        self.changes[f"{node.target} pools windows laid side by side"] = None
        return True

    def drop_last(self, names: set[str]) -> bool:
        """Take an operation of one of these names off the end; False where the model ends otherwise."""
        output = next(iter(reversed(self.graph.nodes)))
        last = output.args[0]
        while isinstance(last, fx.Node) and isinstance(self._part(last), (nn.Identity, nn.Dropout)):
            last = last.args[0]
        if not isinstance(last, fx.Node) or self._operation(last) not in names or not last.args:
            return False
        output.args = (last.args[0],)
        return True

    def _operation(self, node: fx.Node) -> str:
        if node.op != "call_module":
            return plain_name(_raw_name(node))[0]
        part = self._part(node)
        return next((name for name, kind in ACTIVATIONS.items() if isinstance(part, kind)), "")

    def _part(self, node: fx.Node) -> Any:
        """The module that a node calls; None for other nodes."""
        return self.twin.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _read_result_later(self, node: fx.Node) -> None:
        """Let what comes after an operation in place read its result: that is what it found in the overwritten one."""
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node):
            later = set(itertools.takewhile(lambda item: item is not node, reversed(self.graph.nodes)))
            for user in [user for user in source.users if user in later]:
                user.replace_input_with(source, node)

    def _exchange(self, node: fx.Node, new: Any, args: tuple[Any, ...], name: str = "") -> None:
        """Put a function, or a module under a new name, in the place of a node."""
        with self.graph.inserting_before(node):
            if isinstance(new, nn.Module):
                made = self.graph.call_module(self._add(name, new), args)
            else:
                made = self.graph.call_function(new, args)
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
        self.graph.erase_node(node)

    def _add(self, wish: str, part: nn.Module) -> str:
        """Register a module under a name that is free; return the name."""
        path, _, name = wish.rpartition(".")
        parent = self.twin.get_submodule(path)
        free = next(free for i in itertools.count() if not hasattr(parent, free := f"{name}_{i}" if i else name))
        parent.add_module(free, part)
        return f"{path}.{free}" if path else free

    def _values(self) -> tuple[set[fx.Node], dict[fx.Node, Any]]:
        """Run the graph; return the nodes that depend on numbers of the inputs, and what every node stands for."""
        depending: set[fx.Node] = set()
        values: dict[fx.Node, Any] = {}
        arguments = iter(self.arguments)
        for node in self.graph.nodes:
            if node.op == "placeholder":
                given = next(arguments)
                values[node] = given.clone() if isinstance(given, torch.Tensor) else given
                depending.add(node)
            elif node.op != "output":
                args, kwargs = (fx.map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
                values[node] = _run(self.twin, node, args, kwargs)
                if not _asks_shape(node) and not depending.isdisjoint(node.all_input_nodes):
                    depending.add(node)
        return depending, values


def _raw_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _where(node: fx.Node) -> str:
    """The dotted name of the module whose code a node comes from."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if paths and node.op == "call_module" and paths[-1] == node.target:
        paths.pop()
    return paths[-1] if paths and paths[-1] else "the model"
