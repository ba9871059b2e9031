"""The mutants of a module: one small change each to its syntax tree."""

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.MatMult: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
PAIRS = ["lower upper", "lstrip rstrip", "find rfind", "index rindex", "split rsplit", "min max"]
PAIRS += ["removeprefix removesuffix", "partition rpartition", "any all", "startswith endswith"]
NAMES = {one: other for pair in PAIRS for one, other in (pair.split(), pair.split()[::-1])}
# types, names that are written to and the words of errors are no behaviour
PASSED_OVER = {"annotation", "returns", "decorator_list", "target", "targets", "exc", "msg"}
# a node or a list, the field or the index in it, and what comes there
Change = tuple[Any, Any, Any]


class Mutant(NamedTuple):
    """A change, the lines of its statement and the outermost function around it.

    `function` is a name as in `Class.method`; it is empty or ends in a dot outside of functions.
    """

    lines: range
    function: str
    change: Change

    def __str__(self) -> str:
        holder, key, new = self.change
        old = _get(holder, key)
        inside = isinstance(holder, ast.AST) and not isinstance(old, ast.expr)
        where = f" in {_text(holder)}" if inside else ""
        return f"{_text(old)} -> {_text(new)}{where}"

    def make(self) -> None:
        """Change the tree that the mutant was made from."""
        holder, key, new = self.change
        if isinstance(holder, list):
            holder[key] = new
        else:
            setattr(holder, key, new)


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """All mutants of a module, in a fixed order."""
    yield from _of_body(tree.body, "")


def _of_body(body: list[ast.stmt], function: str) -> Iterator[Mutant]:
    for at, statement in enumerate(body):
        if isinstance(statement, ast.ClassDef):
            yield from _of_body(statement.body, f"{function}{statement.name}.")
            continue
        bodies = [value for _, value in ast.iter_fields(statement) if _is_body(value)]
        last = statement.end_lineno or 0
        name = function
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if not function or function.endswith("."):
                name += statement.name
        elif bodies:
            last = max(statement.lineno, min(value[0].lineno for value in bodies) - 1)
        lines = range(statement.lineno, last + 1)
        for change in _of_statement(body, at):
            yield Mutant(lines, name, change)
        for value in bodies:
            handled = [one.body for one in value if isinstance(one, ast.ExceptHandler)]
            for inner in handled or [value]:
                yield from _of_body(inner, name)


def _is_body(value: object) -> bool:
    kinds = ast.stmt | ast.ExceptHandler
    return isinstance(value, list) and bool(value) and isinstance(value[0], kinds)


def _of_statement(body: list[ast.stmt], at: int) -> Iterator[Change]:
    match body[at]:
        case ast.Expr(ast.Constant()):  # a docstring
            return
        case ast.Expr():
            yield body, at, ast.Pass()
        case ast.Break():
            yield body, at, ast.Pass()
        case ast.Continue():
            yield body, at, ast.Break()
        case ast.AugAssign(target, op, value) as statement:
            yield body, at, ast.copy_location(ast.Assign([target], value), statement)
            yield statement, "op", SWAPS[type(op)]()
        case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
            none = isinstance(value, ast.Constant) and value.value is None
            yield body[at], "value", ast.Constant("" if none else None)
    yield from _inside(body[at])


def _inside(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        for value in (False,) if isinstance(node, ast.While) else (True, False):
            yield node, "test", ast.Constant(value)
    if isinstance(node, ast.comprehension):
        for at in range(len(node.ifs)):
            yield from ((node.ifs, at, ast.Constant(value)) for value in (True, False))
    for name, value in ast.iter_fields(node):
        if isinstance(value, list) and not _is_body(value) and name not in PASSED_OVER:
            for at in range(len(value)):
                yield from _at(value, at)
        elif isinstance(value, ast.AST) and name not in PASSED_OVER:
            yield from _at(node, name)


def _at(holder: Any, key: Any) -> Iterator[Change]:
    match node := _get(holder, key):
        case ast.Constant(bool() as value):
            yield holder, key, ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield holder, key, ast.Constant(value + 1)
        case ast.Constant(str() as value):
            yield holder, key, ast.Constant(f"XX{value}XX")
        case ast.Compare(ops=ops):
            yield from ((ops, at, SWAPS[type(op)]()) for at, op in enumerate(ops))
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            yield node, "op", SWAPS[type(op)]()
        case ast.UnaryOp(operand=operand):
            yield holder, key, operand
        case ast.Lambda():
            yield node, "body", ast.Constant(None)
        case ast.Call():
            yield from _of_call(node)
        case ast.JoinedStr(values):
            for value in values:
                if isinstance(value, ast.FormattedValue):
                    yield from _inside(value)
            return
    if isinstance(node, ast.AST):
        yield from _inside(node)


def _of_call(node: ast.Call) -> Iterator[Change]:
    key = "id" if isinstance(node.func, ast.Name) else "attr"
    name = getattr(node.func, key, "")
    if name in NAMES:
        yield node.func, key, NAMES[name]
    if len(node.args) + len(node.keywords) == 1 or name in ("isinstance", "cast"):
        return
    for field, values in (("args", node.args), ("keywords", node.keywords)):
        for at, value in enumerate(values):
            if not isinstance(value, ast.Starred):
                yield node, field, [*values[:at], *values[at + 1 :]]


def _get(holder: Any, key: Any) -> Any:
    return holder[key] if isinstance(holder, list) else getattr(holder, key)


def _text(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node))}]"
    if isinstance(node, ast.expr | ast.stmt | ast.comprehension | ast.keyword):
        return " ".join(ast.unparse(node).split())[:100]
    return type(node).__name__ if isinstance(node, ast.AST) else str(node)
