"""From text to a tree: the grammar of CEL with optional syntax, and its macros."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kubesim.schema.cel.tree import (
    Bind,
    Both,
    Call,
    CelSyntax,
    Choice,
    Either,
    Has,
    Index,
    ListOf,
    Literal,
    Loop,
    Made,
    MapOf,
    Name,
    Node,
    Select,
    complaint,
    dotted,
)

MOST_DEPTH = 50
MOST_CHARACTERS = 10_000
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
      | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
      | (?P<int>0[xX][0-9a-fA-F]+|\d+)(?P<u>[uU])?
      | (?P<string>(?:[rR][bB]?|[bB][rR]?)?
            (?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
      | (?P<ident>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
      | (?P<op>==|!=|<=|>=|&&|\|\||[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while"),
    )
)
_PRIMARY = (
    "'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', "
    "NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER"
)
_LOOPS = frozenset(
    (
        *("all", "exists", "exists_one", "existsOne", "map", "filter"),
        *("transformList", "transformMap", "transformMapEntry"),
    )
)
_LEVELS = (
    (("==", "!=", "<", "<=", ">=", ">", "in"),),
    (("+", "-"),),
    (("*", "/", "%"),),
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    at: int


def _tokens(source: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            why = f"Syntax error: token recognition error at: '{source[at]}'"
            raise CelSyntax(complaint(source, at, why))
        kind = match.lastgroup or ""
        if kind == "u":
            found.append(Token("uint", match["int"], at))
        elif kind != "space":
            found.append(Token(kind, match[0], at))
        at = match.end()
    return [*found, Token("end", "<EOF>", len(source))]


@lru_cache(maxsize=4096)
def parse(source: str) -> Node:
    """Raises CelSyntax."""
    if len(source) > MOST_CHARACTERS:
        raise CelSyntax(
            f"expression code point size exceeds limit: size: {len(source)}, limit {MOST_CHARACTERS}"
        )
    parser = _Parser(source, _tokens(source))
    tree = parser.expression()
    last = parser.peek()
    if last.kind != "end":
        raise parser.wrong(last, f"Syntax error: mismatched input '{last.text}' expecting <EOF>")
    return tree


class _Parser:
    def __init__(self, source: str, tokens: Sequence[Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def peek(self) -> Token:
        return self._tokens[self._next]

    def wrong(self, token: Token, why: str) -> CelSyntax:
        return CelSyntax(complaint(self._source, token.at, why))

    def _take(self, *texts: str) -> Token | None:
        token = self.peek()
        if token.text in texts and token.kind in ("op", "ident"):
            self._next += 1
            return token
        return None

    def _need(self, text: str) -> Token:
        token = self._take(text)
        if token is None:
            found = self.peek()
            raise self.wrong(found, f"Syntax error: missing '{text}' at '{found.text}'")
        return token

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise self.wrong(self.peek(), f"expression recursion limit exceeded: {MOST_DEPTH}")
        made = self._either()
        token = self._take("?")
        if token is not None:
            yes = self._either()
            self._need(":")
            made = Choice(token.at, made, yes, self.expression())
        self._depth -= 1
        return made

    def _either(self) -> Node:
        made = self._both()
        while (token := self._take("||")) is not None:
            made = Either(token.at, made, self._both())
        return made

    def _both(self) -> Node:
        made = self._binary(0)
        while (token := self._take("&&")) is not None:
            made = Both(token.at, made, self._binary(0))
        return made

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        made = self._binary(level + 1)
        while (token := self._take(*_LEVELS[level][0])) is not None:
            name = "@in" if token.text == "in" else f"_{token.text}_"
            made = Call(token.at, name, (made, self._binary(level + 1)))
        return made

    def _unary(self) -> Node:
        token = self.peek()
        signs = 0
        while self._take(token.text) if token.text in ("!", "-") and token.kind == "op" else None:
            signs += 1
        if signs == 0:
            return self._member(self._primary())
        if token.text == "-" and signs % 2 and self.peek().kind in ("int", "float"):
            number = self._primary()
            if isinstance(number, Literal):
                return self._member(Literal(token.at, -number.value))
        made = self._member(self._primary())
        for _ in range(signs % 2):
            made = Call(token.at, "!_" if token.text == "!" else "-_", (made,))
        return made

    def _member(self, made: Node) -> Node:
        while True:
            if (token := self._take(".")) is not None:
                made = self._selected(made, token)
            elif (token := self._take("[")) is not None:
                optional = self._take("?") is not None
                key = self.expression()
                self._need("]")
                made = Index(token.at, made, key, optional)
            elif self.peek().text == "{" and self.peek().kind == "op" and (name := dotted(made)):
                made = self._made(name)
            else:
                return made

    def _selected(self, of: Node, dot: Token) -> Node:
        optional = self._take("?") is not None
        token = self.peek()
        if token.kind == "quoted":
            self._next += 1
            return Select(dot.at, of, token.text[1:-1], optional)
        if token.kind != "ident" or (token.text in ("true", "false", "null", "in")):
            raise self.wrong(token, f"Syntax error: no viable alternative at input '.{token.text}'")
        self._next += 1
        if optional or (bracket := self._take("(")) is None:
            return Select(dot.at, of, token.text, optional)
        args = self._items(")")
        return self._method(bracket.at, of, token.text, args)

    def _method(self, at: int, of: Node, name: str, args: tuple[Node, ...]) -> Node:
        path = dotted(of)
        if path == "cel" and name == "bind" and len(args) == 3 and isinstance(args[0], Name):
            return Bind(at, "bind", args[0].name, args[1], args[2])
        if name in ("optMap", "optFlatMap") and len(args) == 2 and isinstance(args[0], Name):
            return Bind(at, name, args[0].name, of, args[1])
        loop = self._loop(at, of, name, args) if name in _LOOPS else None
        return loop or Call(at, name, args, of)

    def _loop(self, at: int, over: Node, macro: str, args: tuple[Node, ...]) -> Node | None:
        macro = "exists_one" if macro == "existsOne" else macro
        transforms = macro.startswith("transform")
        names = 2 if transforms else 1
        if not transforms and macro != "map" and len(args) == 3:
            names = 2
        rest = len(args) - names
        if rest < 1 or rest > (2 if transforms or macro == "map" else 1):
            return None
        if macro == "filter" and names == 2:
            return None
        words = []
        for one in args[:names]:
            if not isinstance(one, Name):
                raise CelSyntax(complaint(self._source, one.at, "argument must be a simple name"))
            words.append(one.name)
        only = args[names] if rest == 2 else None
        return Loop(at, macro, over, tuple(words), args[-1], only)

    def _items(self, end: str) -> tuple[Node, ...]:
        made: list[Node] = []
        while self._take(end) is None:
            if made:
                self._need(",")
                if end == "]" and self._take(end):
                    break
            made.append(self.expression())
        return tuple(made)

    def _primary(self) -> Node:
        token = self.peek()
        self._next += 1
        match token.kind:
            case "int" | "uint":
                return self._number(token)
            case "float":
                return Literal(token.at, float(token.text))
            case "string":
                return Literal(token.at, self._string(token))
            case "ident":
                return self._named(token)
        if token.kind == "op":
            if token.text == "(":
                made = self.expression()
                self._need(")")
                return made
            if token.text == "[":
                return ListOf(token.at, self._list())
            if token.text == "{":
                return MapOf(token.at, self._map())
            if token.text == "." and self.peek().kind == "ident":
                return self._primary()
        raise self.wrong(token, f"Syntax error: mismatched input '{token.text}' expecting {{{_PRIMARY}}}")

    def _number(self, token: Token) -> Node:
        value = int(token.text, 16 if token.text[:2].lower() == "0x" else 10)
        if token.kind == "uint":
            if value >= 2**64:
                raise self.wrong(token, "invalid uint literal")
            return Literal(token.at, value, unsigned=True)
        signed = self._next > 1 and self._tokens[self._next - 2].text == "-"
        if value > 2**63 - (0 if signed else 1):
            raise self.wrong(token, "invalid int literal")
        return Literal(token.at, value)

    def _named(self, token: Token) -> Node:
        constants = {"true": True, "false": False, "null": None}
        if token.text in constants:
            return Literal(token.at, constants[token.text])
        if token.text in RESERVED:
            raise self.wrong(token, f"reserved identifier: {token.text}")
        if token.text == "in":
            raise self.wrong(token, f"Syntax error: mismatched input 'in' expecting {{{_PRIMARY}}}")
        bracket = self._take("(")
        if bracket is None:
            return Name(token.at, token.text)
        args = self._items(")")
        if token.text == "has" and len(args) == 1:
            field = args[0]
            if not isinstance(field, Select):
                raise CelSyntax(complaint(self._source, bracket.at, "invalid argument to has() macro"))
            return Has(bracket.at, field.of, field.field)
        return Call(bracket.at, token.text, args)

    def _list(self) -> tuple[tuple[Node, bool], ...]:
        made: list[tuple[Node, bool]] = []
        while self._take("]") is None:
            if made:
                self._need(",")
                if self._take("]"):
                    break
            optional = self._take("?") is not None
            made.append((self.expression(), optional))
        return tuple(made)

    def _map(self) -> tuple[tuple[Node, Node, bool], ...]:
        made: list[tuple[Node, Node, bool]] = []
        while self._take("}") is None:
            if made:
                self._need(",")
                if self._take("}"):
                    break
            optional = self._take("?") is not None
            key = self.expression()
            self._need(":")
            made.append((key, self.expression(), optional))
        return tuple(made)

    def _made(self, name: str) -> Node:
        brace = self._need("{")
        made: list[tuple[str, Node, bool]] = []
        while self._take("}") is None:
            if made:
                self._need(",")
                if self._take("}"):
                    break
            optional = self._take("?") is not None
            token = self.peek()
            if token.kind not in ("ident", "quoted"):
                why = (
                    f"Syntax error: mismatched input '{token.text}' expecting {{'}}', ',', '?', IDENTIFIER}}"
                )
                raise self.wrong(token, why)
            self._next += 1
            self._need(":")
            made.append((token.text.strip("`"), self.expression(), optional))
        return Made(brace.at, name, tuple(made))

    def _string(self, token: Token) -> str | bytes:
        text = token.text
        quote = min(at for at in (text.find('"'), text.find("'")) if at >= 0)
        prefix, rest = text[:quote].lower(), text[quote:]
        size = 3 if rest[:3] in ('"""', "'''") and len(rest) >= 6 else 1
        body = rest[size:-size]
        if "b" in prefix:
            return body.encode() if "r" in prefix else _bytes(body)
        return body if "r" in prefix else _ESCAPE.sub(lambda found: self._escaped(token, found[0]), body)

    def _escaped(self, token: Token, text: str) -> str:
        if text[1] in _ESCAPES:
            return _ESCAPES[text[1]]
        try:
            return chr(int(text[1:], 8) if text[1].isdigit() else int(text[2:], 16))
        except ValueError:
            raise self.wrong(token, "invalid string literal") from None


_ESCAPE = re.compile(r"\\(?:[0-7]{3}|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES = {
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
    **{one: one for one in "\\?\"'`"},
}


def _bytes(body: str) -> bytes:
    made = bytearray()
    at = 0
    for found in _ESCAPE.finditer(body):
        made += body[at : found.start()].encode()
        text = found[0]
        if text[1] in _ESCAPES:
            made += _ESCAPES[text[1]].encode()
        elif text[1] in "xX":
            made.append(int(text[2:], 16))
        elif text[1].isdigit():
            made.append(int(text[1:], 8) & 0xFF)
        else:
            made += chr(int(text[2:], 16)).encode()
        at = found.end()
    return bytes(made + body[at:].encode())
