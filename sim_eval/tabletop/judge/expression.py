"""The language of the rubric's ``sim:`` strings: a small, checked subset of Python expressions.

An expression may call judge words, name objects and levels, list names, compare, and combine with and, or, not.
Everything is checked before any trace exists: unknown words and names, wrong arguments, wrong kinds of value. No
Python code of the file is ever run; attributes, subscripts, keywords, lambdas and comprehensions are refused.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError, unknown_name
from sim_eval.tabletop.judge.view import View

Value = bool | float | str | list[bool] | list[str]
TRUTH, TRUTHS, NUMBER, NAME, NAMES = "truth", "truths", "number", "name", "names"
"""Kinds of value an expression can have."""
EACH, OBJECT, ARM, AXIS, DIRECTION = "each", "object", "arm", "axis", "direction"
"""Kinds of argument that are names; a name written there must be one of that kind, so that a slip is not a silent no.
``each`` is an object or a list of objects, of which the word is asked one by one."""
MAX_CHARACTERS = 400
CONSTANT_NAMES = ("none", "unclear", "left", "right", "above", "side", "clockwise", "counterclockwise", "z")
"""Names every expression may use besides the objects and levels of its family."""


@dataclass(frozen=True, slots=True)
class Word:
    """One judge word.

    Attributes:
        name: how expressions call it.
        function: gets the view and the arguments.
        takes: kind of each argument.
        optional: how many of the last arguments may be left out.
        gives: kind of the answer for a single name.
    """

    name: str
    function: Callable[..., Value]
    takes: tuple[str, ...]
    optional: int
    gives: str

    def answer(self, view: View, arguments: list[Value]) -> Value:
        """Call the word; a list in the place of ``each`` gives a list of answers."""
        if self.takes and self.takes[0] == EACH and isinstance(arguments[0], list):
            return [bool(self.function(view, name, *arguments[1:])) for name in arguments[0]]
        return self.function(view, *arguments)


WORDS: dict[str, Word] = {}
"""Every judge word by name; filled by :func:`word`."""


def word(
    takes: tuple[str, ...], gives: str, optional: int = 0
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Register a function ``(view, *arguments)`` as a judge word under its own name."""

    def register(function: Callable[..., Value]) -> Callable[..., Value]:
        name = function.__name__.rstrip("_")
        WORDS[name] = Word(name, function, takes, optional, gives)
        return function

    return register


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression.

    Attributes:
        text: what the rubric says, placeholders filled.
        kind: kind of value it gives.
    """

    text: str
    kind: str
    _tree: ast.expr

    def value(self, view: View) -> Value:
        """Evaluate on one trace."""
        return _value(self._tree, view)

    def holds(self, view: View) -> bool:
        """Evaluate a truth on one trace."""
        return bool(self.value(view))


def compile_expression(text: str, kind: str, objects: Iterable[str], levels: Iterable[str] = ()) -> Expression:
    """Check an expression.

    Args:
        text: the expression, placeholders already filled.
        kind: the kind of value it must give.
        objects: names of the objects of the scene.
        levels: further names it may compare with.

    Raises:
        SetupError: FV-JDG-001 (not in the language), -002 (unknown word), -003 (wrong arguments),
            -004 (unknown name), -005 (gives another kind of value than wanted).
    """
    if len(text) > MAX_CHARACTERS:
        raise SetupError("FV-JDG-001", f"expression of {len(text)} characters, at most {MAX_CHARACTERS} fit.")
    try:
        with warnings.catch_warnings():
            # Python warns about odd literals on stderr; here they are either refused or harmless.
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SetupError("FV-JDG-001", f"{text!r} is no expression: {error}.") from error
    got = _Checker(text, frozenset(objects), frozenset(levels) | frozenset(CONSTANT_NAMES)).kind(tree)
    if got != kind:
        raise SetupError("FV-JDG-005", f"{text!r} gives a {got}, wanted a {kind}.")
    return Expression(text, got, tree)


@dataclass(frozen=True, slots=True)
class _Checker:
    """Infers the kind of every part of one expression."""

    text: str
    objects: frozenset[str]
    names: frozenset[str]

    def kind(self, node: ast.expr) -> str:
        match node:
            case ast.BoolOp(values=values):
                for part in values:
                    self._want(part, TRUTH)
                return TRUTH
            case ast.UnaryOp(op=ast.Not(), operand=part):
                self._want(part, TRUTH)
                return TRUTH
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
            case ast.Name(id=name):
                if name not in self.objects | self.names:
                    raise unknown_name("FV-JDG-004", "name", name, self.objects | self.names, repr(self.text))
                return NAME
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return NUMBER
            case ast.List(elts=parts) if parts:
                for part in parts:
                    self._want(part, NAME)
                return NAMES
        raise self._refuse(node)

    def _comparison(self, node: ast.Compare) -> str:
        kinds = {self.kind(part) for part in (node.left, *node.comparators)}
        by_name = kinds == {NAME} and all(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        ordered = ast.Lt | ast.LtE | ast.Gt | ast.GtE | ast.Eq | ast.NotEq
        if by_name or (kinds == {NUMBER} and all(isinstance(op, ordered) for op in node.ops)):
            return TRUTH
        raise SetupError("FV-JDG-003", f"{self.text!r} compares {' with '.join(sorted(kinds))}; numbers or names only.")

    def _call(self, node: ast.Call) -> str:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._refuse(node)
        name = node.func.id
        if name not in WORDS:
            raise unknown_name("FV-JDG-002", "judge word", name, WORDS, repr(self.text))
        called = WORDS[name]
        least = len(called.takes) - called.optional
        if not least <= len(node.args) <= len(called.takes):
            wanted = str(least) if not called.optional else f"{least} to {len(called.takes)}"
            raise SetupError("FV-JDG-003", f"{name} in {self.text!r} takes {wanted}, got {len(node.args)}.")
        for wanted_kind, part in zip(called.takes, node.args, strict=False):
            self._argument(wanted_kind, part)
        many = called.takes[:1] == (EACH,) and isinstance(node.args[0], ast.List)
        return TRUTHS if many else called.gives

    def _argument(self, wanted: str, node: ast.expr) -> None:
        choices = {
            EACH: self.objects,
            OBJECT: self.objects,
            NAMES: self.objects,
            ARM: frozenset(("left", "right")),
            AXIS: frozenset("z"),
            DIRECTION: frozenset(("clockwise", "counterclockwise")),
        }
        many = isinstance(node, ast.List) and wanted in (EACH, NAMES)
        for part in node.elts if isinstance(node, ast.List) and many else [node]:
            if isinstance(part, ast.Name) and wanted in choices and part.id not in choices[wanted]:
                what = OBJECT if wanted in (EACH, NAMES) else wanted
                raise unknown_name("FV-JDG-004", what, part.id, choices[wanted], repr(self.text))
        self._want(node, NAMES if many else NAME if wanted in choices and wanted != NAMES else wanted)

    def _want(self, node: ast.expr, kind: str) -> None:
        got = self.kind(node)
        if got != kind:
            part = ast.unparse(node)
            raise SetupError("FV-JDG-003", f"{part!r} in {self.text!r} is a {got}, wanted a {kind}.")

    def _refuse(self, node: ast.expr) -> SetupError:
        return SetupError(
            "FV-JDG-001", f"{ast.unparse(node)!r} in {self.text!r} is not allowed; call words, compare, and/or/not."
        )


def _value(node: ast.expr, view: View) -> Value:
    """Evaluate a checked tree."""
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(part, view) for part in values)
        case ast.BoolOp(values=values):
            return any(_value(part, view) for part in values)
        case ast.UnaryOp(operand=part):
            return not _value(part, view)
        case ast.Call(func=ast.Name(id=name), args=parts):
            return WORDS[name].answer(view, [_value(part, view) for part in parts])
        case ast.Name(id=name):
            return name
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.List(elts=parts):
            return [str(_value(part, view)) for part in parts]
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(part, view) for part in (left, *others)]
            return all(_compare(op, a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False))
    raise AssertionError(f"unchecked expression {ast.dump(node)}")


def _compare(operator: ast.cmpop, a: Value, b: Value) -> bool:
    """Compare two values of the same kind."""
    if isinstance(operator, ast.Eq):
        return a == b
    if isinstance(operator, ast.NotEq):
        return a != b
    first, second = float(a), float(b)  # type: ignore[arg-type]
    if isinstance(operator, ast.Lt | ast.LtE):
        return first < second or (isinstance(operator, ast.LtE) and first == second)
    return first > second or (isinstance(operator, ast.GtE) and first == second)
