"""Queries at random over archived tables, and what is determined of their answers."""

import collections
import dataclasses

from terms import OTHERS, Terms

LIMITS = [0, 1, 1, 2, 3, 5, 10, 29, -1, 10**9, 2**63 - 1]
OFFSETS = [0, 0, 1, 1, 2, 3, 7, 20, 40, 1000, -4, 2**62]


@dataclasses.dataclass
class Query:
    """A query with `{all_t}` and `{cold_t}` for the tables, and what of its answer is determined."""

    sql: str
    parameters: list
    # With a limit, rows that ORDER BY does not tell apart may take each other's place.
    limit: str = ""
    limit_parameters: list = dataclasses.field(default_factory=list)
    # The result columns that ORDER BY names, in its order, each with the collation it sorts by.
    order: list = dataclasses.field(default_factory=list)
    # The result columns that show any one of several values that are equal by this collation.
    loose: dict = dataclasses.field(default_factory=dict)
    # The order is total, although not all that it is by is in the result.
    exact: bool = False

    def difference(self, got, expected, everything):
        """What is wrong with the rows `got`, or None. `everything` gives what a LIMIT chose from."""
        if repr(got) == repr(expected):
            return None
        if isinstance(got, str) or isinstance(expected, str) or self.exact:
            return first_difference(got, expected)
        keys = [[folded(row[n], c) for n, c in self.order] for row in got]
        expected_keys = [[folded(row[n], c) for n, c in self.order] for row in expected]
        if repr(keys) != repr(expected_keys):
            return "the order: " + first_difference(keys, expected_keys)
        rows = collections.Counter(map(self.shown, got))
        whole = everything()
        if isinstance(whole, str):
            return f"the query without its limit fails: {whole}"
        missing = collections.Counter(map(self.shown, expected)) - rows
        surplus = rows - collections.Counter(map(self.shown, whole))
        if surplus or (missing and whole is expected):
            return f"missing rows: {list(missing)[:3]}\nrows too many: {list(surplus)[:3]}"
        return None

    def shown(self, row):
        """What of a row is determined, as text."""
        return repr([folded(v, self.loose[n]) if n in self.loose else v for n, v in enumerate(row)])


def folded(value, collation):
    """The same for values that SQLite holds equal by a collation, and only for those."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str) or collation == "BINARY":
        return value
    text = value.encode("utf-8", "surrogateescape")
    if collation == "RTRIM":
        return "text", text.rstrip(b" ")
    # NOCASE knows the letters of ASCII, and compares only up to a NUL character, then by length.
    return "text", text.lower().split(b"\0")[0], len(text)


def first_difference(got, expected):
    """Where two answers part."""
    if isinstance(got, str) or isinstance(expected, str):
        return f"got {got!r:.600}\nexpected {expected!r:.600}"
    pairs = enumerate(zip(got, expected))
    place = next((n for n, (g, e) in pairs if repr(g) != repr(e)), min(len(got), len(expected)))
    rows = f"from row {place} of {len(got)} (expected {len(expected)}): "
    return rows + f"{got[place:place + 3]!r:.600}\nexpected {expected[place:place + 3]!r:.600}"


def quoted(value):
    """A literal."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


class Queries(Terms):
    """Makes queries over pairs of tables, the same ones for the same seed."""

    def query(self):
        self.parameters = []
        shapes = [self.rows] * 10 + [self.groups, self.distinct, self.aggregate] * 2
        shapes += [self.join, self.joined_rows, self.each, self.windows, self.compound] * 1
        shapes += [self.common, self.paged_rows, self.wrong, self.compound, self.outer]
        shapes += [self.outer_terms] * 3
        return self.rng.choice(shapes)()

    def where(self):
        return f" WHERE {self.condition()}" if self.rng.random() < 0.85 else ""

    def limited(self, query, likely=0.4):
        """Perhaps adds a LIMIT, as literals, parameters or expressions, now and then a wrong one."""
        rng = self.rng
        if rng.random() > likely:
            return query

        def number(pool):
            value = rng.choice(pool)
            if rng.random() < 0.02:
                value = rng.choice(["x", None, 1.5, b"1", "3", 2.0])
            if rng.random() < 0.5:
                query.limit_parameters.append(value)
                return f"?{len(query.parameters) + len(query.limit_parameters)}"
            return f"(SELECT {quoted(value)})" if rng.random() < 0.1 else quoted(value)

        count = number(LIMITS)
        query.limit = f" LIMIT {count}"
        if rng.random() < 0.5:
            query.limit += f" OFFSET {number(OFFSETS)}"
        return query

    def rows(self):
        """Rows of one table: any WHERE, ORDER BY and LIMIT."""
        rng = self.rng
        with self.over("a") as table:
            chosen, unique = self.ordering() if rng.random() < 0.7 else ([], False)
            if rng.random() < 0.25:
                chosen, unique = chosen[:1], unique and "id" in chosen[0][0]
            hidden = unique and rng.random() < 0.5
            keys = [] if hidden else [text for text, *_ in chosen]
            shown = [self.column() for _ in range(rng.randrange(1, 4))]
            shown = ["a.*"] if rng.random() < 0.3 else shown
            sql = f"SELECT {', '.join(keys + shown)} FROM {table}{self.where()}"
            if chosen:
                sql += " ORDER BY " + ", ".join(term for *_, term in chosen)
            order = [] if hidden else [(n, c) for n, (_, c, _) in enumerate(chosen)]
            query = Query(sql, self.parameters, order=order, exact=hidden)
            return self.limited(query, 1 if self.pair.big else 0.45)

    def paged_rows(self):
        """IN lists and OR of terms together with ORDER BY and a LIMIT, as applications page."""
        rng = self.rng
        with self.over("a") as table:
            start = rng.choice([self.listed, self.alike, self.paged, self.ranged, self.compared])()
            joined = f"{start} {rng.choice(['AND', 'OR', 'OR'])} {self.term()}"
            where = f"({joined})" + (f" AND {self.few('a')}" if rng.random() < 0.3 else "")
            first, second = self.direction(), self.direction()
            order = rng.choice([f"a.ts{first}, a.id{second}", f"a.id{first}"])
            sql = f"SELECT a.id, a.s FROM {table} WHERE {where} ORDER BY {order}"
            return self.limited(Query(sql, self.parameters, exact=True), 0.8)

    def groups(self):
        """GROUP BY with HAVING and aggregates."""
        rng = self.rng
        with self.over("a") as table:
            names = [self.name() for _ in range(rng.choice([1, 1, 2]))]
            columns = ", ".join(f"a.{name}" for name in names)
            loose = {n: self.collation(name) for n, name in enumerate(names)}
            what = (
                f"count(*), min(a.id), max(a.id), sum(a.id % 1000), count(DISTINCT {self.column()})"
            )
            sql = f"SELECT {columns}, {what} FROM {table}{self.where()} GROUP BY {columns}"
            if rng.random() < 0.3:
                sql += f" HAVING {rng.choice(['count(*) > 1', f'max({self.column()}) > 5'])}"
            query = Query(sql, self.parameters, loose=loose)
            shape = rng.randrange(3)
            if shape == 1:
                query.sql += f" ORDER BY min(a.id){rng.choice(['', ' DESC'])}"
                query.order = [(len(names) + 1, "BINARY")]
            elif shape == 2:
                terms = [f"a.{name}{self.direction()}" for name in names]
                query.sql += " ORDER BY " + ", ".join(terms)
                query.order = list(loose.items())
            return self.limited(query, 0.3)

    def distinct(self):
        """DISTINCT, with any ORDER BY of the same columns."""
        with self.over("a") as table:
            chosen, _ = self.ordering()
            columns = ", ".join(text for text, *_ in chosen)
            names = [text.removeprefix("a.") for text, *_ in chosen]
            sql = f"SELECT DISTINCT {columns} FROM {table}{self.where()}"
            query = Query(sql, self.parameters)
            query.loose = {n: self.collation(name) for n, name in enumerate(names)}
            if self.rng.random() < 0.6:
                same = [text + self.direction() for text, *_ in chosen]
                query.sql += " ORDER BY " + ", ".join(same)
                query.order = list(query.loose.items())
            return self.limited(query)

    def aggregate(self):
        """One row for all: the only min() and max() are looked for in order by SQLite."""
        rng = self.rng
        with self.over("a") as table:
            names = [self.name() for _ in range(rng.choice([1, 1, 2]))]
            one = [f"{rng.choice(['min', 'max'])}(a.{name})" for name in names]
            loose = {n: self.collation(name) for n, name in enumerate(names)}
            more = ["count(*)", f"count({self.column()})", f"count(DISTINCT {self.column()})"]
            more += [
                "sum(a.id % 1000)",
                "total(a.id % 7)",
                f"sum(typeof({self.column()}) = 'text')",
            ]
            if rng.random() < 0.5:
                one, loose = rng.sample(more, 2), {}
            some = f" FILTER (WHERE {self.condition(2)})" if rng.random() < 0.2 else ""
            sql = f"SELECT {', '.join(one)}{some} FROM {table}{self.where()}"
            return Query(sql, self.parameters, loose=loose)

    def matched(self, left, right):
        """An ON clause between two tables, given their pairs."""
        rng = self.rng
        same = [(name, name) for name in ("id", "id", "ts", "ts", "code", "n", "s", "nc", "x")]
        one, two = rng.choice([*same, (rng.choice(left.asked), rng.choice(right.asked))])
        return f"a.{one} {rng.choice(['=', '=', '=', '=', 'IS', '<', '>='])} b.{two}"

    def join(self):
        """Joins of few rows with all rows of another table or the same."""
        rng, kind = self.rng, self.rng.choice(["JOIN", "JOIN", "LEFT JOIN", "CROSS JOIN"])
        # SQLite may ask a cold table anew for each row of a big one; CROSS JOIN keeps the order.
        kind = "CROSS JOIN" if kind == "JOIN" and self.pairs[0].big else kind
        with self.over("a") as left:
            one, few = self.pair, self.few("a")
            with self.over("b") as right:
                on = self.matched(one, self.pair)
                on += f" AND {self.term()}" if rng.random() < 0.4 else ""
                after = f"{self.column()} IS NULL" if rng.random() < 0.3 else "1"
                after = self.term() if rng.random() < 0.4 else after
                columns = f"a.id, b.id, {self.column()}"
        sql = f"FROM {left} {kind} {right} ON {on} WHERE {few} AND {after}"
        if rng.random() < 0.3:
            sql = f"SELECT count(*), count(b.id), sum(a.id % 1000 + b.id % 10) {sql}"
            return Query(sql, self.parameters)
        sql = f"SELECT {columns} {sql} ORDER BY 1{self.direction()}, 2{self.direction()}"
        return self.limited(Query(sql, self.parameters, exact=True))

    def outer(self):
        """RIGHT and FULL JOIN, for which SQLite remembers which rows had a match."""
        rng = self.rng
        with self.over("a") as left:
            one, few = self.pair, self.few("a")
            with self.over("b") as right:
                on = self.matched(one, self.pair)
        kind = rng.choice(["RIGHT JOIN", "FULL JOIN"])
        sql = f"FROM (SELECT * FROM {left} WHERE {few}) a {kind} {right} ON {on}"
        return Query(f"SELECT a.id, b.id {sql} ORDER BY 1, 2", self.parameters, exact=True)

    def outer_terms(self):
        """Outer joins whose ON asks for more than a match, with any operator and of either side."""
        rng, few = self.rng, ""
        with self.over("a") as left:
            one = self.pair
            terms = [self.offered() for _ in range(rng.choice([0, 1, 1, 2]))]
            if one.big or rng.random() < 0.2:
                few = f" WHERE {self.few('a')}"
            with self.over("b") as right:
                on = rng.choice(["a.id = b.id", "a.ts = b.ts AND a.id = b.id", "b.id = a.id + 1"])
                on = self.matched(one, self.pair) if few and rng.random() < 0.3 else on
                terms += [self.offered() for _ in range(rng.choice([0, 0, 1, 2]))]
        rng.shuffle(terms)
        on = " AND ".join([on, *terms])
        kind = rng.choice(["LEFT JOIN"] * 4 + ["RIGHT JOIN", "FULL JOIN"])
        other, word = f"o.{rng.choice(OTHERS)}", rng.choice(["JOIN", "LEFT JOIN"])
        third = f"{word} o ON {other} = a.ts AND {rng.choice([*terms, '1'])}"
        rest = few.removeprefix(" WHERE ") or "1"
        sql = rng.choice(
            [
                f"FROM {left} {kind} {right} ON {on}{few}",
                f"FROM {left} {kind} {right} ON {on}{few}",
                f"FROM {left} {kind} (SELECT * FROM {right}) b ON {on}{few}",
                f"FROM (SELECT * FROM {left} WHERE {rest}) a {kind} {right} ON {on}",
                f"FROM o CROSS JOIN {left} ON o.rowid = 3 {kind} {right} ON {on}{few}",
                f"FROM {left} {kind} {right} ON {on} {third}{few}",
                f"FROM {left} LEFT JOIN o ON {other} = a.id {kind} {right} ON {on}{few}",
                f"FROM {left} {kind} ({right} {word} o ON {other} = b.ts) ON {on}{few}",
            ]
        )
        return Query(f"SELECT a.id, b.id {sql} ORDER BY 1, 2", self.parameters, exact=True)

    def joined_rows(self):
        """Joins with a table that has values of every class."""
        rng = self.rng
        with self.over("a") as table:
            other = f"o.{rng.choice(OTHERS)}"
            on = f"{self.column()} {rng.choice(['=', '=', '=', 'IS', '<'])} {other}"
            on += f" AND {self.term()}" if rng.random() < 0.3 else ""
            kind = rng.choice(["JOIN", "LEFT JOIN", "CROSS JOIN"])
            some = f"o.rowid % 5 = {rng.randrange(5)}"
            sql = f"SELECT o.rowid, a.id FROM o {kind} {table} ON {on} WHERE {some} ORDER BY 1, 2"
            return self.limited(Query(sql, self.parameters, exact=True), 0.3)

    def each(self):
        """Scalar subqueries, run anew for each row, with ORDER BY and LIMIT of their own."""
        rng, self.level = self.rng, 1
        with self.over("a") as left:
            outer, few = self.pair, self.few("a")
            with self.over("b") as right:
                rows = f"FROM {right} WHERE {self.matched(outer, self.pair)}"
                if rng.random() < 0.6:
                    order = f"b.ts{rng.choice(['', ' DESC'])}, b.id{rng.choice(['', ' DESC'])}"
                    inner = f"SELECT {self.column()} {rows} ORDER BY {order}"
                    inner += f" LIMIT 1 OFFSET {rng.choice([0, 0, 1, 3])}"
                else:
                    inner = f"SELECT count(*) {rows} AND {self.term()}"
        self.level = 0
        sql = f"SELECT a.id, ({inner}) FROM {left} WHERE {few} ORDER BY a.id"
        return Query(sql, self.parameters, exact=True)

    def windows(self):
        """Window functions."""
        rng = self.rng
        with self.over("a") as table:
            by, where = self.column(), self.where()
            order = f"ORDER BY a.ts{self.direction()}, a.id{rng.choice(['', ' DESC'])}"
            part = rng.choice(["", f"PARTITION BY {self.column()} "])
            frame = rng.choice(["", " ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING"])
            function = rng.choice(
                [
                    f"row_number() OVER ({part}{order})",
                    f"sum(a.id % 1000) OVER ({part}{order}{frame})",
                    f"lag(a.id, 2) OVER ({part}{order})",
                    f"first_value(a.id) OVER ({part}{order}{frame})",
                    f"rank() OVER ({part}ORDER BY {by}{self.direction()})",
                    f"count(*) OVER ({part}ORDER BY {by})",
                ]
            )
            sql = f"SELECT a.id, {function} FROM {table}{where} ORDER BY 1"
            return self.limited(Query(sql, self.parameters, exact=True), 0.3)

    def compound(self):
        """UNION, UNION ALL, EXCEPT and INTERSECT; ORDER BY makes SQLite merge the arms."""
        rng, arms, loose = self.rng, [], {}
        width = rng.choice([1, 1, 2])
        for n in range(rng.choice([2, 2, 3])):
            with self.over("a") as table:
                names = [rng.choice(["id", "ts", self.name()]) for _ in range(width)]
                loose = loose or {n: self.collation(name) for n, name in enumerate(names)}
                # SQLite 3.40 takes the collation of a later arm if that is a view with UNION ALL.
                for n, name in enumerate(names):
                    if self.collation(name) != loose[n]:
                        names[n] = {"BINARY": "id", "NOCASE": "nc", "RTRIM": "rt"}[loose[n]]
                columns = ", ".join(f"a.{name}" for name in names)
                arms.append(f"SELECT {columns} FROM {table}{self.where()}")
                arms.append(rng.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]))
        query = Query(" ".join(arms[:-1]), self.parameters, loose=loose)
        if rng.random() < 0.7:
            query.sql += (
                f" ORDER BY {', '.join(f'{n + 1}{self.direction()}' for n in range(width))}"
            )
            query.order = list(loose.items())
        return self.limited(query)

    def common(self):
        """Common table expressions, also one that walks from row to row."""
        rng = self.rng
        with self.over("a") as table:
            if rng.random() < 0.3:
                up, last = rng.choice([(">", "min"), ("<", "max")])
                step = f"SELECT {last}(a.id) FROM {table} WHERE {self.term()}"
                sql = (
                    f"WITH RECURSIVE w(id) AS ({step} UNION ALL SELECT ({step} AND a.id {up} w.id)"
                    " FROM w WHERE w.id IS NOT NULL LIMIT 12) SELECT id FROM w"
                )
                return Query(sql, self.parameters, exact=True)
            hint, where = rng.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "]), self.where()
            order = f"a.ts{rng.choice(['', ' DESC'])}, a.id"
            page = f"SELECT * FROM {table}{where} ORDER BY {order} LIMIT {rng.randrange(1, 9)}"
            sql = f"WITH w AS {hint}({page}) SELECT w.id, a.id, {self.column()} FROM w"
            on = f"a.id = w.id AND {self.compared()}"
            sql += f" {rng.choice(['JOIN', 'LEFT JOIN'])} {table} ON {on} ORDER BY 1, 2"
            return Query(sql, self.parameters, exact=True)

    def wrong(self):
        """Queries that fail on some row, or at once: they must fail, not find fewer rows."""
        with self.over("a") as table:
            column = self.column()
            failing = [
                f"SELECT a.id FROM {table} WHERE {column} LIKE 'a%' ESCAPE 'ab'",
                f"SELECT a.id FROM {table} WHERE {column} LIKE '5%' ESCAPE ''",
                f"SELECT a.id FROM {table} WHERE json_extract({column}, '$.a') > 1",
                f"SELECT a.id FROM {table} WHERE {column} > abs(-9223372036854775808)",
                f"SELECT a.id FROM {table} WHERE {column} GLOB replace(hex(zeroblob(30000)), '0', 'a')",
                f"SELECT a.id FROM {table} WHERE {column} = (1, 2)",
                f"SELECT a.id FROM {table} WHERE a.id IN (SELECT 1, 2 FROM {table})",
                f"SELECT sum(9223372036854775807) FROM {table}",
                f"SELECT no_such_column FROM {table}",
            ]
            return Query(self.rng.choice(failing), [])

    def whole(self):
        """All columns of all rows of each table."""
        for pair in self.pairs:
            for kind in ("all", "cold"):
                rowid = "rowid, " if kind == "cold" and pair.kind.rowid else ""
                sql = f"SELECT {rowid}* FROM {{{kind}_{pair.name}}}"
                yield Query(f"{sql} ORDER BY id", [], exact=True)

    def again(self, query):
        """The same statement with other parameters, often of other types."""
        parameters = [
            self.near(v) if self.rng.random() < 0.4 else self.value() for v in query.parameters
        ]
        limits = [self.rng.choice(LIMITS[:8]) for _ in query.limit_parameters]
        return dataclasses.replace(query, parameters=parameters, limit_parameters=limits)
