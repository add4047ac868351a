"""Reading VNN-LIB version 2 through the standard's own parser.

The text is limited in size and nesting before that parser (native code) sees it. One
network with one input and one output tensor is expressed; hidden tensors and relations
between networks are refused. Elements are numbered row by row, as in the flat vectors.
Numbers are read from the text of their literals, never through floats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import vnnlib

from auditor.errors import InvalidText, Place, PropertyMismatch, UnsupportedProperty
from auditor.verify.property.alternatives import (
    MAX_NUMBER_BITS,
    Alternatives,
    CaseBuilder,
    Linear,
    all_of,
    any_of,
    compare,
    total_of,
)
from auditor.verify.property.cases import Property
from auditor.verify.property.numbers import exact_decimal

MAX_CHARACTERS = 32_000_000
MAX_DEPTH = 64
MAX_WORDS = 1_000_000
# The library notes every word of a wrong type, in 2 KB each and four times the length of a name:
# it is given so many words at a time, and stops at the first part that is wrong.
MAX_WORDS_AT_ONCE = 200_000
MAX_NAME = 64
_LONG_NAME = re.compile(rf"[A-Za-z_][^\s()\[\],]{{{MAX_NAME}}}")
_PART = re.compile(r";[^\n]*|([()])|[^\s();]+")
_LENGTHY = f"a number of more than {MAX_NUMBER_BITS} bits; write it out, or scale it"
_SIGNS = {
    vnnlib.LessEqual: "<=",
    vnnlib.GreaterEqual: ">=",
    vnnlib.LessThan: "<",
    vnnlib.GreaterThan: ">",
    vnnlib.Equal: "==",
}


def parse_vnnlib2(
    text: str, name: str, *, source: str, num_inputs: int, num_outputs: int
) -> Property:
    """Read the text of a VNN-LIB 2 file as a property.

    Args:
        text: The file's content.
        name: Name of the property.
        source: Name of the file, for messages.
        num_inputs: Size of the network's flat input.
        num_outputs: Size of its flat output.

    Raises:
        InvalidText: Not VNN-LIB 2, or a limit is passed.
        UnsupportedProperty: A form this reader does not express.
        PropertyMismatch: Declared for a network of another size.
    """
    queries = [_query(part, source) for part in _parts(text, source)]
    shapes = _shapes(queries[0], source)
    for letter, what, size in (("X", "inputs", num_inputs), ("Y", "outputs", num_outputs)):
        if math.prod(shapes[letter]) != size:
            raise PropertyMismatch(name, what, size, math.prod(shapes[letter]))
    sizes = {"X": num_inputs, "Y": num_outputs}
    builder = CaseBuilder(name, source, sizes, lambda line: Place(source, line))
    reader = _Reader(source, shapes)
    asserted = (each.expr for query in queries for each in query.assertions)
    return builder.property_of([reader.alternatives(each) for each in asserted])


def _query(text: str, source: str) -> vnnlib.Query:
    try:
        return vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as error:
        raise InvalidText(source, " ".join(str(error)[:1_000].split())[:300]) from None
    except (IndexError, ValueError, OverflowError) as error:
        problem = f"a number beyond all ranges ({str(error)[:60]})"
        raise InvalidText(source, f"{problem}; write a smaller one") from None


def _parts(text: str, source: str) -> Iterator[str]:
    """The text; a long one as its declarations with some assertions at a time.

    Lines keep their numbers.
    """
    head, words, cuts = 0, 0, [0]
    for begin, count, asserts in _statements(text, source):
        if asserts and not head:
            head, words, cuts = begin, 0, [begin]
        words += count
        if count > MAX_WORDS_AT_ONCE or (words > MAX_WORDS_AT_ONCE and not head):
            problem = f"more than {MAX_WORDS_AT_ONCE} words in one statement; split the property"
            raise InvalidText(source, problem)
        if words > MAX_WORDS_AT_ONCE:
            cuts.append(begin)
            words = count
    return (
        text[:head] + "\n" * text.count("\n", head, begin) + text[begin:end]
        for begin, end in pairwise([*cuts, len(text)])
    )


def _statements(text: str, source: str) -> Iterator[tuple[int, int, bool]]:
    """Where each whole statement begins, its words, and whether it is an assertion."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidText(source, f"longer than {MAX_CHARACTERS} characters")
    depth = words = begin = before = 0
    asserts = False
    for part in _PART.finditer(text):
        word = part[0]
        if word[0] == ";":
            continue
        words += 1
        if words > MAX_WORDS:
            raise InvalidText(source, f"more than {MAX_WORDS} words; split the property")
        if len(word) > MAX_NAME and _LONG_NAME.search(word):
            raise InvalidText(source, f"a name of more than {MAX_NAME} characters; shorten it")
        if word == "(":
            if depth == 0:
                begin, before, asserts = part.start(), words - 1, False
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidText(source, f"nested deeper than {MAX_DEPTH}")
        elif word == ")":
            depth -= 1
            if depth == 0:
                yield begin, words - before, asserts
        elif depth == 1 and words == before + 2:
            asserts = word == "assert"


def _shapes(query: vnnlib.Query, source: str) -> dict[str, Sequence[int]]:
    """The shapes of the one input (X) and the one output (Y)."""
    if len(query.networks) != 1:
        raise UnsupportedProperty(f"{source}: {len(query.networks)} networks; only one is read")
    (network,) = query.networks
    if network.hidden or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedProperty(
            f"{source}: only networks with one input, one output and no hidden tensors are read"
        )
    return {"X": network.inputs[0].shape, "Y": network.outputs[0].shape}


class _Reader:
    """Turns the parser's tree into alternatives."""

    def __init__(self, source: str, shapes: dict[str, Sequence[int]]) -> None:
        self.source, self.shapes = source, shapes

    def alternatives(self, expression: vnnlib.BoolExpr) -> Alternatives:
        """The formula as a disjunction of conjunctions of atoms."""
        if isinstance(expression, vnnlib.And | vnnlib.Or):
            blocks = [self.alternatives(part) for part in expression.args]
            combine = all_of if isinstance(expression, vnnlib.And) else any_of
            return combine(blocks, lambda problem: InvalidText(self.source, problem))
        if isinstance(expression, vnnlib.NotEqual):
            sides = self._sides(expression)
            return [compare(sign, *sides) for sign in ("<", ">")]
        if isinstance(expression, vnnlib.Comparison):
            return [compare(_SIGNS[type(expression)], *self._sides(expression))]
        raise UnsupportedProperty(f"{self.source}: '{str(expression)[:60]}' is not read")

    def _sides(self, expression: vnnlib.Comparison) -> tuple[Linear, Linear, int]:
        line = next((leaf.line for leaf in _leaves(expression)), 1)
        return self._linear(expression.lhs), self._linear(expression.rhs), line

    def _linear(self, term: vnnlib.ArithExpr) -> Linear:
        form = self._combined(term)
        if form.is_lengthy:
            raise InvalidText(self.source, _LENGTHY)
        return form

    def _combined(self, term: vnnlib.ArithExpr) -> Linear:
        if isinstance(term, vnnlib.Var):
            return Linear({self._flat_name(term): Fraction(1)}, Fraction(0))
        if isinstance(term, vnnlib.Float | vnnlib.Int):
            # The package's stubs leave the literal's text out.
            try:
                return Linear({}, exact_decimal(str(term.lexeme)))  # type: ignore[union-attr]
            except ValueError as error:
                raise InvalidText(self.source, str(error)) from None
        if isinstance(term, vnnlib.Negate):
            return self._linear(term.expr).scaled(Fraction(-1))
        if isinstance(term, vnnlib.Plus):
            return total_of([self._linear(part) for part in term.args])
        if isinstance(term, vnnlib.Minus):
            rest = total_of([self._linear(part) for part in term.rest])
            return self._linear(term.head).plus(rest.scaled(Fraction(-1)))
        if isinstance(term, vnnlib.Multiply):
            return self._product([self._linear(part) for part in term.args])
        raise UnsupportedProperty(f"{self.source}: '{str(term)[:60]}' is not a linear term")

    def _product(self, parts: Sequence[Linear]) -> Linear:
        forms = [part for part in parts if part.coefficients]
        if len(forms) > 1:
            raise UnsupportedProperty(f"{self.source}: a product of variables is not linear")
        product = forms[0] if forms else Linear({}, Fraction(1))
        for part in parts:
            if not part.coefficients:
                product = product.scaled(part.constant)
                if product.is_lengthy:
                    raise InvalidText(self.source, _LENGTHY)
        return product

    def _flat_name(self, variable: vnnlib.Var) -> str:
        letter = "X" if variable.kind == vnnlib.SymbolKind.Input else "Y"
        shape = self.shapes[letter]
        if len(variable.indices) != len(shape):
            raise InvalidText(
                Place(self.source, variable.line),
                f"{variable.name} has {len(shape)} axes, {len(variable.indices)} are named",
            )
        flat = 0
        for index, size in zip(variable.indices, shape, strict=True):
            if not 0 <= index < size:
                raise InvalidText(
                    Place(self.source, variable.line),
                    f"index {index} of {variable.name} is outside of 0 to {size - 1}",
                )
            flat = flat * size + index
        return f"{letter}_{flat}"


def _leaves(node: vnnlib.Node) -> list[vnnlib.Var]:
    if isinstance(node, vnnlib.Var):
        return [node]
    return [leaf for child in node.children() for leaf in _leaves(child)]
