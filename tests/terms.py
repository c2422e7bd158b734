"""Terms of WHERE clauses and of ORDER BY at random, over archived tables."""

import contextlib

from test_filters import Filters, cell
from twins import VALUES, malformed

OTHERS = ["o_int", "o_real", "o_text", "o_blob", "o_any", "o_nc"]
OPERATORS = ["=", "=", "==", "<", "<=", ">", ">=", "<>", "!=", "IS", "IS NOT"]


class Terms(Filters):
    """Makes terms over pairs of tables, the same ones for the same seed."""

    def __init__(self, seed, pairs, encoding, raw_text):
        super().__init__(seed)
        self.pairs = pairs
        self.raw = malformed(encoding) if raw_text else []
        self.pair, self.cold, self.alias, self.last, self.level = pairs[0], False, "a", "id", 0

    # The parts of an expression.

    @contextlib.contextmanager
    def over(self, alias, pair=None):
        """Within it, columns and constants are those of a table. Gives the text that names it."""
        saved = self.pair, self.cold, self.alias
        self.pair, self.alias = pair or self.rng.choice(self.pairs), alias
        self.cold = self.rng.random() < 0.5
        yield f"{{{'cold' if self.cold else 'all'}_{self.pair.name}}} {alias}"
        self.pair, self.cold, self.alias = saved

    def name(self):
        """A column's name."""
        rng, pair = self.rng, self.pair
        if rng.random() < 0.15 and self.cold and pair.kind.rowid:
            self.last = "rowid"
        else:
            self.last = rng.choice([*pair.asked, "id", "id", "ts", "ts", "ts"])
        return self.last

    def column(self):
        return f"{self.alias}.{self.name()}"

    def collation(self, name):
        return self.pair.collations.get(name, "BINARY")

    def near(self, value):
        """A value that is equal to another, or nearly, or in some comparisons only."""
        texts = {"s": str, "b": lambda v: str(v).encode("utf-8", "surrogatepass")}
        if isinstance(value, str):
            changed = [value.swapcase(), value + " ", value.strip(), value[:-1], value + "\0"]
            with contextlib.suppress(ValueError):
                changed.append(float(value))
        elif isinstance(value, (int, float)):
            changed = [texts["s"](value), value + 1, value - 0.5, -value]
            if abs(value) < 2**62:
                changed += [int(value), float(value), f"{int(value)}.0"]
        else:
            changed = [value, None]
        changed = self.rng.choice([*changed, texts["b"](value)])
        too_large = isinstance(changed, int) and not -(2**63) <= changed < 2**63
        return float(changed) if too_large else changed

    def value(self):
        """A value that a column has, one near it, or any."""
        rng, choice = self.rng, self.rng.random()
        samples = self.pair.samples.get(self.last)
        if choice < 0.75 and samples:
            value = rng.choice(samples)
            return value if choice < 0.5 else self.near(value)
        if choice < 0.9:
            return rng.choice(VALUES)
        return cell(
            rng, rng.choice(["integer", "real", "digits", "text", "stamp"]), rng.randrange(12)
        )

    def bind(self, value):
        self.parameters.append(value)
        return f"?{len(self.parameters)}"

    def write(self, value):
        """A value as a literal or, perhaps, as a bound parameter."""
        odd = isinstance(value, str) and (set(value) & set("\0{}'") or len(value) > 100)
        infinite = isinstance(value, float) and value - value != 0
        if odd or infinite or self.rng.random() < 0.5:
            return self.bind(value)
        if value is None:
            return "NULL"
        if isinstance(value, bytes):
            return f"x'{value.hex()}'"
        # SQLite reads 9223372036854775808 after a minus sign as a REAL.
        if value == -(2**63) and isinstance(value, int):
            return "(-9223372036854775807 - 1)"
        return f"'{value}'" if isinstance(value, str) else repr(value)

    def constant(self):
        if self.raw and self.rng.random() < 0.03:
            return self.rng.choice(self.raw)
        return self.write(self.value())

    # Terms of a WHERE clause, besides those of Filters.

    def term(self):
        rng = self.rng
        if rng.random() < 0.45:
            return super().term()
        shapes = [self.alike, self.alike, self.listed, self.listed, self.ranged, self.ranged]
        shapes += [self.compared, self.compared, self.paged, self.wrapped, self.nested]
        return rng.choice(shapes)()

    def compared(self):
        column = self.column()
        return f"{column} {self.rng.choice(OPERATORS)} {self.constant()}"

    def alike(self):
        """LIKE and GLOB with prefixes of values, as literals and parameters, of any case."""
        rng, column = self.rng, self.column()
        value = self.value()
        text = str(value) if not isinstance(value, bytes) else value.decode("latin-1")
        text = text[: rng.choice([0, 1, 2, 3, 10, 80])]
        word, any_text, one = rng.choice(
            [("LIKE", "%", "_"), ("LIKE", "%", "_"), ("GLOB", "*", "?")]
        )
        text = rng.choice([text, text, text.swapcase(), text[:1] + one + text[2:], any_text + text])
        pattern = text + rng.choice(
            [any_text, any_text, any_text, "", one, any_text + "0", "[a-z]*"]
        )
        pattern = rng.choice([pattern] * 12 + [value, None, 5, b"a%"])
        escape = f" ESCAPE '{rng.choice('_a!%')}'" if word == "LIKE" and rng.random() < 0.15 else ""
        if rng.random() < 0.1:
            return f"{word.lower()}({self.write(pattern)}, {column})"
        return f"{column} {rng.choice(['', '', 'NOT '])}{word} {self.write(pattern)}{escape}"

    def listed(self):
        """IN a list in which values come twice, are NULL, or are equal after a conversion."""
        column, rng = self.column(), self.rng
        listed = [self.constant() for _ in range(rng.choice([1, 2, 3, 5, 12, 30]))]
        listed += rng.sample(listed, rng.randrange(2))
        return f"{column} {rng.choice(['', '', '', 'NOT '])}IN ({', '.join(listed)})"

    def ranged(self):
        """Both ends of a range, some of them without a row."""
        column = self.column()
        low, high = self.rng.choice([">", ">="]), self.rng.choice(["<", "<="])
        return f"({column} {low} {self.constant()} AND {column} {high} {self.constant()})"

    def offered(self):
        """A term that SQLite can offer to a virtual table, with any of the operators."""
        rng = self.rng
        column = f"{self.alias}.{rng.choice([*self.pair.asked, 'id', 'ts', 's', 's', 'nc'])}"
        shapes = [self.alike, self.alike, self.compared, self.compared, self.ranged, self.listed]
        present = f"{column} {rng.choice(['NOTNULL', 'NOT NULL', 'IS NOT NULL', 'ISNULL'])}"
        either = f"({column} NOTNULL OR {self.compared()})"
        return rng.choice([rng.choice(shapes)(), rng.choice(shapes)(), present, either])

    def paged(self):
        """Row values, as pages by key use them."""
        rng = self.rng
        one, two = rng.choice(
            [("ts", "id"), ("id", "ts"), (self.name(), "id"), ("code", self.name())]
        )
        self.last = one
        first = self.constant()
        self.last = two
        pair = f"({self.alias}.{one}, {self.alias}.{two})"
        return (
            f"{pair} {rng.choice(['<', '<=', '>', '>=', '=', 'IS'])} ({first}, {self.constant()})"
        )

    def wrapped(self):
        """Expressions that are not a column, or have another affinity or collation than it."""
        column, rng = self.column(), self.rng
        operator, collation = rng.choice(OPERATORS), rng.choice(["BINARY", "NOCASE", "RTRIM"])
        shapes = [
            lambda: f"+{column} {operator} {self.constant()}",
            lambda: f"{column} || '' {operator} {self.constant()}",
            lambda: f"typeof({column}) {operator} '{rng.choice(['text', 'integer', 'real', 'null'])}'",
            lambda: f"length({column}) {operator} {rng.randrange(5)}",
            lambda: f"{column} COLLATE {collation} {operator} {self.constant()}",
            lambda: f"{column} COLLATE {collation} IN ({self.constant()}, {self.constant()})",
            lambda: f"{column} COLLATE {collation} BETWEEN {self.constant()} AND {self.constant()}",
            lambda: f"coalesce({column}, {self.constant()}) {operator} {self.constant()}",
            lambda: f"{column} IS {rng.choice(['', 'NOT '])}DISTINCT FROM {self.constant()}",
            lambda: f"{column} IS {rng.choice(['', 'NOT '])}{rng.choice(['TRUE', 'FALSE'])}",
            lambda: column,
            lambda: f"NOT {column}",
            lambda: f"{column} {rng.choice(['ISNULL', 'NOTNULL', 'IS ' + self.column()])}",
            lambda: f"CASE WHEN {column} > {self.constant()} THEN {self.compared()} ELSE 1 END",
            lambda: f"likely({column} = {self.constant()})",
            lambda: f"CAST({column} AS {rng.choice(['TEXT', 'INTEGER'])}) {operator} {self.constant()}",
        ]
        return rng.choice(shapes)()

    def nested(self):
        """A subquery over another table, or over the same, that may refer to the outer one."""
        rng, outer = self.rng, self.column()
        no, operator = rng.choice(["", "", "NOT "]), rng.choice(OPERATORS)
        if self.level:
            return f"{outer} {no}IN (SELECT {rng.choice(OTHERS)} FROM o)"
        self.level += 1
        with self.over("z") as table:
            inner, where = self.column(), self.condition(2)
            order = f"z.ts {rng.choice(['', 'DESC'])}, z.id"
            rows = f"FROM {table} WHERE {where}"
            text = rng.choice(
                [
                    f"{outer} {no}IN (SELECT {inner} {rows})",
                    f"{outer} IN (SELECT {inner} {rows} ORDER BY {order} LIMIT 5)",
                    f"{outer} {operator} (SELECT {inner} {rows} ORDER BY {order} LIMIT 1 OFFSET 2)",
                    f"{outer} > (SELECT count(*) {rows})",
                    f"({outer} IN (SELECT o_any FROM o) AND"
                    f" {no}EXISTS (SELECT 1 {rows} AND {inner} = {outer}))",
                ]
            )
        self.level -= 1
        return text

    def condition(self, depth=0):
        """Like that of Filters, and for a big table one that mostly few rows pass."""
        if depth or not self.pair.big or self.rng.random() < 0.3:
            return super().condition(depth)
        start = self.rng.choice(self.pair.edges)
        low, high = start - self.rng.randrange(40), start + self.rng.randrange(40)
        narrow = f"{self.alias}.{self.rng.choice(['id', 'n'])} BETWEEN {low} AND {high}"
        return narrow if self.rng.random() < 0.4 else f"{narrow} AND {super().condition(1)}"

    def few(self, alias):
        """A condition that few rows pass, so that what follows from each row may be slow."""
        if self.rng.random() < 0.4:
            self.last = "ts"
            return f"{alias}.ts = {self.constant()}"
        ids = ", ".join(str(n) for n in self.rng.choices(self.pair.samples["id"], k=4))
        return f"{alias}.id IN ({ids})"

    # ORDER BY.

    def direction(self):
        rng = self.rng
        nulls = f" NULLS {rng.choice(['FIRST', 'LAST'])}" if rng.random() < 0.12 else ""
        return rng.choice(["", " ASC", " DESC", " DESC"]) + nulls

    def ordering(self):
        """Columns to sort by, as (expression, collation, ORDER BY term); whether they are unique."""
        rng, key = self.rng, self.pair.collations
        lists = [
            ["ts"],
            ["ts"],
            ["id"],
            ["id"],
            ["ts", "id"],
            ["ts", "id"],
            ["ts", "id"],
            ["id", "ts"],
        ]
        lists += [[self.name()], [self.name(), "id"], ["ts", self.name()], ["code"]]
        lists += [["ts", "k"], ["k"]] if "k" in key else []
        lists += [["g", "k"], ["ts", "g", "k"]] if "g" in key else []
        if self.cold and self.pair.kind.rowid:
            lists += [["rowid"], ["rowid"], ["ts", "rowid"]]
        same = self.direction() if rng.random() < 0.6 else None
        chosen = []
        for name in rng.choice(lists):
            collation, text = self.collation(name), f"{self.alias}.{name}"
            term = rng.choice([text] * 15 + [f"+{text}"])
            if rng.random() < 0.12:
                collation = rng.choice(["BINARY", "NOCASE", "RTRIM"])
                term += f" COLLATE {collation}"
            term += self.direction() if same is None else same
            chosen.append((text, collation, term))
        return chosen, any(
            text in (f"{self.alias}.id", f"{self.alias}.rowid") for text, *_ in chosen
        )
