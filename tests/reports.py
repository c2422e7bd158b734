"""Reports at random, in SQL that means the same to SQLite and to DuckDB.

Where the two differ, a report says it in a way that both understand alike: `1e0` and not `1.0` (a
DECIMAL in DuckDB), a division of DOUBLEs, LIKE and lower() only where there are no letters of two
cases, and a column of a result has whole numbers or reals, not both. A report has every row of a tie, or an order that leaves no tie.
"""

import dataclasses
import random
import re

from conftest import literal

STATUSES = ["pending", "running", "done", "failed", "it's"]
KINDS = ["import", "export", "sync", "report"]
TAGS = ["alpha", "beta", "beta-2", "gamma", "a_b", "50%", "[x]", "", "a*c"]
TITLES = ["café", "Ünïcode", "日本語", "emoji \U0001f600", "plain", "two\nlines", 'quo"te', "ß", ""]
LEVELS = ["debug", "info", "warn", "error"]
LARGE = [2**63 - 1, -(2**63), 0, 2**53 + 1]
DAYS = 13


def day(number):
    """The days of the history, the first of which are in February of a leap year."""
    return f"2024-02-{number + 23}" if number <= 6 else f"2024-03-{number - 6:02}"


def real(value):
    """A literal, a DOUBLE for DuckDB, too."""
    return f"{value:.6f}e0"


@dataclasses.dataclass
class Report:
    """A query and its parameters."""

    sql: str
    parameters: list
    # The columns that are sums or averages of reals: their last digits depend on the order in which
    # the numbers are added.
    close: set
    ordered: bool


class Reports:
    """Makes reports over all_tasks, all_events, owners and the TEMP table bounds, the same ones for
    the same seed. `binary` says that SQLite orders text by its bytes in UTF-8, `texts` that timestamps
    are text in DuckDB, too."""

    def __init__(self, seed, binary=True, texts=False):
        self.rng = random.Random(seed)
        self.binary, self.texts = binary, texts
        self.values = []

    def report(self):
        shapes = [self.groups] * 4 + [self.summary, self.owners, self.events, self.windows] * 2
        shapes += [self.nested] * 3 + [self.listing, self.pairs, self.compound, self.common]
        shapes += [self.series, self.distinct, self.documents, self.loose, self.derived]
        sql, close, ordered = self.rng.choice(shapes)()
        parameters = []

        def bind(match):
            parameters.append(self.values[int(match[1])])
            return "?"

        sql = re.sub("<(\\d+)>", bind, sql)
        return Report(sql, parameters, set(close), ordered)

    # Constants and terms.

    def write(self, value):
        """A value as a literal or, now and then, as the mark of a parameter."""
        if self.rng.random() < 0.25:
            self.values.append(value)
            return f"<{len(self.values) - 1}>"
        if isinstance(value, str):
            return literal(value)
        if value == -(2**63):
            return "(-9223372036854775807 - 1)"
        return real(value) if isinstance(value, float) else str(value)

    def moment(self):
        rng = self.rng
        return self.write(f"{day(rng.randrange(1, DAYS + 2))} {rng.randrange(24):02}:00:00")

    def date(self):
        return self.write(day(self.rng.randrange(1, DAYS + 2)))

    def some(self, values, count=3):
        """A list for IN, sometimes with a NULL."""
        chosen = [self.write(value) for value in self.rng.sample(values, count)]
        return ", ".join(chosen + ["NULL"] * (self.rng.random() < 0.2))

    def compared(self):
        return self.rng.choice(["<", "<=", ">", ">=", "<>", "="])

    def term(self, a="a"):
        """A predicate on a task."""
        rng = self.rng
        number, way = rng.randrange(1, 400), self.compared()
        terms = [
            f"{a}.id {way} {self.write(number)}",
            f"{a}.id % {rng.randrange(2, 9)} = {rng.randrange(3)}",
            f"{a}.id BETWEEN {self.write(number)} AND {self.write(number + rng.randrange(150))}",
            f"{a}.priority {way} {self.write(rng.randrange(6))}",
            f"{a}.priority IN ({self.some(list(range(6)))})",
            f"{a}.priority NOT IN (1, 4)",
            f"{a}.priority IS NOT DISTINCT FROM {rng.choice(['NULL', '2'])}",
            f"{a}.owner_id IS {rng.choice(['', 'NOT '])}NULL",
            f"{a}.owner_id + {a}.priority > {rng.randrange(10)}",
            f"{a}.big {way} {self.write(rng.choice(LARGE))}",
            f"{a}.extra {rng.choice(['=', '<>'])} 7",
            f"{a}.cost {way} {self.write(rng.randrange(100) / 4)}",
            f"{a}.cost BETWEEN {rng.randrange(10)} AND {self.write(rng.randrange(10, 25))}",
            f"{a}.ratio > {self.write(rng.random())}",
            f"coalesce({a}.ratio, {a}.cost, 0e0) < 0.5e0",
            f"{a}.amount {way} {rng.choice(['3', '4.5e0', '-1'])}",
            f"{a}.void IS NULL",
            f"{a}.void > 1e0",
            f"{a}.status {rng.choice(['=', '<>'])} {self.write(rng.choice(STATUSES))}",
            f"{a}.status IN ({self.some(STATUSES)})",
            f"{a}.status NOT IN ({literal(STATUSES[4])}, 'done')",
            f"{a}.kind = {self.write(rng.choice(KINDS))}",
            f"{a}.tag LIKE {literal(rng.choice(['a%', '%a', '%-%', 'b_ta', '%', '50!%']))} ESCAPE '!'",
            f"{a}.tag GLOB {literal(rng.choice(['a*', '*-?', 'g????', '*']))}",
            f"{a}.tag {rng.choice(['>', '<', '>=', '<='])} {self.write(rng.choice(TAGS))}",
            f"{a}.tag BETWEEN 'a' AND {self.write('beta')}",
            f"{a}.title = {self.write(rng.choice(TITLES))}",
            f"length({a}.title) {way} {rng.randrange(9)}",
            f"substr({a}.title, 2, 2) = {self.write(rng.choice(TITLES)[1:3])}",
            f"instr({a}.title, {literal(rng.choice('aé本n'))}) > 1",
            f"upper({a}.kind) = {literal(rng.choice(KINDS).upper())}",
            f"replace({a}.tag, 'a', '') = 'bet'",
            f"{a}.created_at >= {self.moment()}",
            f"{a}.created_at < {self.moment()}",
            f"{a}.created_at BETWEEN {self.moment()} AND {self.moment()}",
            f"{a}.due {rng.choice(['<', '=', '>=', '<>'])} {self.date()}",
            f"{a}.due IN ({self.date()}, {self.date()}, {self.date()})",
            f"{a}.due IS NULL",
            f"substr(CAST({a}.created_at AS TEXT), 12, 2) = '{rng.randrange(24):02}'",
            f"{a}.body = x'0{rng.randrange(8)}ff'",
            f"{a}.body > x'03'",
            f"hex(coalesce({a}.body, x'')) LIKE '0{rng.randrange(8)}%'",
            f"CAST(json_extract({a}.payload, '$.n') AS BIGINT) > {rng.randrange(9)}",
            f"({a}.payload ->> '$.s') = {self.write(rng.choice('xyz'))}",
            f"json_array_length({a}.payload, '$.list') = {rng.randrange(4)}",
            f"({a}.extra, {a}.status) = ({rng.randrange(7, 9)}, 'done')",
            f"CASE WHEN {a}.priority > 2 THEN {a}.cost ELSE {a}.ratio END > 1e0",
        ]
        if self.binary:
            terms.append(f"{a}.title {way} {self.write(rng.choice(TITLES))}")
        if self.texts:
            stamps = [
                f"substr({a}.created_at, 6, 5) = {literal(day(rng.randrange(1, DAYS))[5:])}",
                f"{a}.created_at LIKE '2024-02-%'",
                f"{a}.due || ' 00:00:00' <= {a}.created_at",
            ]
            terms += stamps * 3
        return rng.choice(terms)

    def condition(self, a="a", most=3):
        """Up to three predicates, with AND, OR and NOT."""
        rng = self.rng
        joined = self.term(a)
        for _ in range(rng.randrange(most)):
            joined = f"({joined} {rng.choice(['AND', 'OR', 'OR'])} {self.term(a)})"
        return f"NOT ({joined})" if rng.random() < 0.1 else joined

    def where(self, a="a", likely=0.7):
        return f" WHERE {self.condition(a)}" if self.rng.random() < likely else ""

    def key(self, a="a"):
        """What tasks are grouped by."""
        keys = ["status", "kind", "tag", "title", "priority", "owner_id", "due", "extra", "cost"]
        keys = [f"{a}.{name}" for name in keys + ["created_at", "big", "body"]]
        keys += [
            f"{a}.id % 5",
            f"substr(CAST({a}.created_at AS TEXT), 1, 10)",
            f"substr(CAST({a}.created_at AS TEXT), 12, 2)",
            f"CASE WHEN {a}.priority >= 3 THEN 'high' WHEN {a}.priority < 3 THEN 'low' END",
            f"coalesce({a}.tag, 'none')",
            f"length({a}.title)",
            f"{a}.status = 'done'",
        ]
        keys += [f"substr({a}.created_at, 1, 7)", f"substr({a}.due, 9)"] * (3 * self.texts)
        return self.rng.choice(keys)

    def measures(self, count, first, a="a"):
        """Aggregates of tasks, and which of them, counted from `first`, are only close."""
        exact = [
            "count(*)",
            f"count({a}.tag)",
            f"count({a}.void)",
            f"count({a}.due)",
            f"count(DISTINCT {a}.status)",
            f"count(DISTINCT {a}.tag)",
            f"count(DISTINCT {a}.owner_id)",
            f"count(DISTINCT {a}.due)",
            f"count(DISTINCT {a}.created_at)",
            f"count(DISTINCT {a}.amount)",
            f"sum({a}.priority)",
            f"sum({a}.extra * 2 - {a}.priority)",
            f"sum({a}.cost)",
            f"coalesce(sum({a}.cost), 0e0)",
            f"sum({a}.void)",
            f"sum(DISTINCT {a}.priority)",
            f"sum({a}.id)",
            f"sum(CASE {a}.status WHEN 'done' THEN 1 ELSE 0 END)",
            f"min({a}.cost)",
            f"max({a}.ratio)",
            f"min({a}.big)",
            f"max({a}.big)",
            f"min({a}.tag)",
            f"max({a}.status)",
            f"min({a}.created_at)",
            f"max({a}.created_at)",
            f"min({a}.due)",
            f"max({a}.body)",
            f"max({a}.void)",
            f"max(length({a}.title))",
            f"CAST(max({a}.amount) AS DOUBLE)",
            f"count(*) FILTER (WHERE {self.condition(a, 2)})",
            f"max({a}.id) - min({a}.id)",
            f"min(CAST(({a}.payload ->> '$.n') AS BIGINT))",
            "count(*) > 3",
        ]
        exact += [f"min({a}.title)", f"max({a}.title)"] * self.binary
        near = [
            f"avg({a}.priority)",
            f"avg({a}.cost)",
            f"avg({a}.ratio)",
            f"sum({a}.ratio)",
            f"coalesce(sum({a}.amount), 0e0) + 0e0",
            f"avg({a}.amount)",
            f"sum({a}.ratio * {a}.cost)",
            f"CAST(sum({a}.priority) AS DOUBLE) / nullif(count({a}.tag), 0)",
        ]
        chosen = [self.rng.choice(near if self.rng.random() < 0.3 else exact) for _ in range(count)]
        return ", ".join(chosen), {first + n for n, one in enumerate(chosen) if one in near}

    def end(self, keys, first=()):
        """ORDER BY all keys, or the `first` and then the keys, perhaps with LIMIT and OFFSET."""
        rng = self.rng
        if rng.random() < 0.3:
            return "", False
        ways = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST", " DESC NULLS FIRST", " NULLS LAST"]
        order = ", ".join(f"{term}{rng.choice(ways)}" for term in [*first, *keys])
        limit = f" LIMIT {self.write(rng.randrange(1, 12))}" if rng.random() < 0.5 else ""
        offset = f" OFFSET {self.write(rng.randrange(4))}" if limit and rng.random() < 0.4 else ""
        return f" ORDER BY {order}{limit}{offset}", True

    def sortable(self, key):
        """Whether SQLite orders these values as DuckDB does."""
        return self.binary or "title" not in key or key.startswith("length")

    # Reports. Each is a text, its columns that are only close, and whether it is ordered.

    def groups(self):
        """GROUP BY with aggregates, HAVING, ORDER BY and LIMIT."""
        rng = self.rng
        keys = sorted({self.key() for _ in range(rng.choice([1, 1, 2]))})
        measures, close = self.measures(rng.randrange(1, 5), len(keys))
        names = ", ".join(keys)
        sql = f"SELECT {names}, {measures} FROM all_tasks a{self.where()} GROUP BY {names}"
        if rng.random() < 0.35:
            having = ["count(*) > 2", "sum(a.cost) > 20", "max(a.priority) = 5", "min(a.due) > "]
            having = rng.choice(having)
            sql += f" HAVING {having}{self.date() if having.endswith(' ') else ''}"
        if not all(map(self.sortable, keys)):
            return sql, close, False
        first = rng.choice([[], ["count(*)"], ["max(a.id)"], ["sum(a.cost)"]])
        end, ordered = self.end(keys, first)
        return sql + end, close, ordered

    def summary(self):
        """One row for all."""
        measures, close = self.measures(self.rng.randrange(1, 7), 0)
        return f"SELECT {measures} FROM all_tasks a{self.where()}", close, True

    def listing(self):
        """Rows themselves, and what is computed of them."""
        rng = self.rng
        shown = [
            "a.status",
            "a.title",
            "a.tag || '/' || a.kind",
            "a.created_at",
            "a.due",
            "a.big",
            "a.cost * 2e0",
            "CAST(a.amount AS DOUBLE)",
            "a.body",
            "a.void",
            "a.payload",
            "abs(a.priority - 3)",
            "a.status || '-' || a.priority",
            "a.priority > 2",
            "a.owner_id IS NULL",
            "coalesce(a.owner_id, -1)",
            "nullif(a.extra, 7)",
            "hex(coalesce(a.body, x''))",
            "length(a.title)",
            "trim(a.title)",
            "CAST(a.cost AS BIGINT) IS NULL",
            "a.ratio",
            "a.id * 1000003 % 1009",
        ]
        columns = ", ".join(rng.sample(shown, 4))
        # Of a whole history a page is enough; of a part of it all rows are asked for.
        order = f"{rng.choice(['a.created_at DESC NULLS LAST, ', 'a.due NULLS FIRST, ', ''])}a.id"
        limit = f" LIMIT {rng.randrange(1, 60)} OFFSET {rng.randrange(9)}"
        page = f" ORDER BY {order}{limit if rng.random() < 0.7 else ''}"
        return f"SELECT a.id, {columns} FROM all_tasks a{self.where()}{page}", (), True

    def owners(self):
        """Tasks and a plain table."""
        rng = self.rng
        join = rng.choice(["JOIN", "LEFT JOIN"])
        on = "o.id = a.owner_id" + rng.choice(["", "", f" AND {self.term()}", " AND o.rate > 1e0"])
        key = rng.choice(["o.name", "o.team", "o.id"])
        measures, close = self.measures(rng.randrange(1, 4), 2)
        sql = f"SELECT {key}, sum(o.rate), {measures} FROM all_tasks a {join} owners o ON {on}"
        if rng.random() < 0.25:
            sql = f"SELECT {key}, count(*), {measures} FROM owners o {join} all_tasks a ON {on}"
        close = close if "count(*), " in sql[:30] else close | {1}
        end, ordered = self.end([key])
        return f"{sql}{self.where()} GROUP BY {key}{end}", close, ordered

    def events(self):
        """Tasks and their events: two archived tables, and perhaps a TEMP one."""
        rng = self.rng
        join = rng.choice(["JOIN", "LEFT JOIN"])
        extra = rng.choice(["", "", " AND e.level = 'error'", " AND e.day >= a.due"])
        on, tables = f"e.task_id = a.id{extra}", ""
        key = rng.choice(["e.level", "a.status", "e.day", "a.owner_id", "e.seq % 3", "a.due"])
        chosen = rng.sample(["count(*)", "max(e.seq)", "count(e.took)", "min(e.day)"], 2)
        if rng.random() < 0.4:
            tables = " JOIN bounds b ON b.level = e.level AND e.took > b.least"
            chosen.append("max(b.least)")
        measures, close = self.measures(2, len(chosen) + 2)
        sql = f"SELECT {key}, avg(e.took), {', '.join(chosen)}, {measures} FROM all_tasks a"
        end, ordered = self.end([key])
        sql += f" {join} all_events e ON {on}{tables}{self.where()} GROUP BY {key}{end}"
        return sql, close | {1}, ordered

    def pairs(self):
        """A table with itself."""
        rng = self.rng
        join = rng.choice(["JOIN", "LEFT JOIN"])
        on = rng.choice(
            ["b.id = a.id + 1", "b.owner_id = a.priority + 1 AND b.id < a.id", "b.due = a.due"]
        )
        measures, close = self.measures(2, 2, "b")
        sql = f"SELECT a.status, count(DISTINCT a.id), {measures} FROM all_tasks a {join}"
        sql += (
            f" all_tasks b ON {on} AND {self.term('b')} WHERE a.id % 4 = 1 AND {self.condition()}"
        )
        end, ordered = self.end(["a.status"])
        return f"{sql} GROUP BY a.status{end}", close, ordered

    def nested(self):
        """IN, NOT IN, EXISTS and scalar subqueries."""
        rng = self.rng
        few = f"a.id % {rng.randrange(20, 40)} = {rng.randrange(9)}"
        inner = (
            f"SELECT 1 FROM all_events e WHERE e.task_id = a.id AND e.took > {real(rng.random())}"
        )
        most = "(SELECT max(cost) FROM all_tasks c WHERE c.status = 'done')"
        wanted = [
            f"a.id {rng.choice(['IN', 'NOT IN'])} (SELECT e.task_id FROM all_events e WHERE"
            f" e.level = {self.write(rng.choice(LEVELS))} AND e.task_id IS NOT NULL)",
            f"{few} AND {rng.choice(['', 'NOT '])}EXISTS ({inner})",
            f"a.cost * 2e0 > {most}",
            "a.owner_id IN (SELECT o.id FROM owners o WHERE o.team <> 'core')",
            f"(a.kind, a.status) IN (SELECT b.kind, b.status FROM all_tasks b WHERE"
            f" b.kind IS NOT NULL AND {self.term('b')})",
            f"a.priority >= (SELECT avg(b.priority) FROM all_tasks b WHERE {self.term('b')})",
        ]
        measures, close = self.measures(3, 1)
        condition = f"{rng.choice(wanted)} AND {self.condition(most=1)}"
        if rng.random() < 0.3:
            columns = (
                f"(SELECT count(*) FROM all_events e WHERE e.task_id = a.id), EXISTS ({inner})"
            )
            return f"SELECT a.id, {columns} FROM all_tasks a WHERE {few} ORDER BY a.id", (), True
        sql = f"SELECT a.kind, {measures} FROM all_tasks a WHERE {condition} GROUP BY a.kind"
        return sql, close, False

    def compound(self):
        """UNION ALL, UNION, EXCEPT and INTERSECT, also of different tables."""
        rng = self.rng
        if rng.random() < 0.5:
            one = f"SELECT 'tasks', count(*), sum(a.priority) FROM all_tasks a{self.where()}"
            two = f"SELECT e.level, count(*), max(e.seq) FROM all_events e WHERE e.seq > {rng.randrange(9)}"
            three = "SELECT o.team, count(*), min(o.id) FROM owners o GROUP BY o.team"
            return f"{one} UNION ALL {two} GROUP BY e.level UNION ALL {three}", (), False
        columns = rng.choice(["status, a.due", "owner_id, a.kind", "tag, a.priority", "title, 1"])
        arms = [f"SELECT a.{columns} FROM all_tasks a{self.where()}" for _ in range(2)]
        return rng.choice([" UNION ", " EXCEPT ", " INTERSECT "]).join(arms), (), False

    def common(self):
        """Common table expressions."""
        rng = self.rng
        hint = rng.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "])
        one = f"SELECT a.id, a.owner_id, a.cost, a.due FROM all_tasks a{self.where()}"
        two = "SELECT w.owner_id AS owner, count(*) AS n, sum(w.cost) AS cost FROM w GROUP BY 1"
        sql = f"WITH w AS {hint}({one}), per AS ({two}) SELECT o.name, per.n, per.cost,"
        sql += " (SELECT max(w.due) FROM w WHERE w.owner_id = o.id) FROM per LEFT JOIN owners o"
        end, ordered = self.end(["per.owner"])
        return f"{sql} ON o.id = per.owner{end}", (), ordered

    def series(self):
        """A recursive series of numbers, and what there is of each."""
        last, measures = self.rng.randrange(3, 12), self.measures(2, 2)
        sql = f"WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last})"
        sql += f" SELECT s.n, count(a.id), {measures[0]} FROM s LEFT JOIN all_tasks a ON"
        sql += f" a.id % {last + 2} = s.n AND {self.term()} GROUP BY s.n ORDER BY s.n"
        return sql, measures[1], True

    def windows(self):
        """Window functions."""
        rng = self.rng
        part = rng.choice(["", "PARTITION BY a.status ", "PARTITION BY a.owner_id "])
        order = f"ORDER BY a.id{rng.choice(['', ' DESC'])}"
        frame = rng.choice(["", " ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING", " ROWS 2 PRECEDING"])
        exact = [
            f"row_number() OVER ({part}{order})",
            f"rank() OVER ({part}ORDER BY a.priority NULLS FIRST)",
            f"dense_rank() OVER ({part}ORDER BY a.due DESC NULLS LAST)",
            f"ntile(4) OVER ({part}{order})",
            f"lag(a.status, 2, 'none') OVER ({part}{order})",
            f"lead(a.big) OVER ({part}{order})",
            f"first_value(a.due) OVER ({part}{order}{frame})",
            f"last_value(a.tag) OVER ({part}{order}{frame})",
            f"nth_value(a.title, 2) OVER ({part}{order})",
            f"sum(a.priority) OVER ({part}{order}{frame})",
            f"count(a.owner_id) OVER ({part}{order}{frame})",
            f"max(a.cost) OVER ({part}{order}{frame})",
            f"count(*) OVER ({part}ORDER BY a.priority NULLS LAST)",
            f"min(a.created_at) OVER ({part or 'PARTITION BY a.kind '})",
        ]
        near = [
            f"avg(a.ratio) OVER ({part}{order}{frame})",
            f"percent_rank() OVER ({part}ORDER BY a.priority NULLS FIRST)",
            f"cume_dist() OVER ({part}{order})",
        ]
        chosen = [*rng.sample(exact, 2), rng.choice(near)]
        sql = f"SELECT a.id, {', '.join(chosen)} FROM all_tasks a{self.where()} ORDER BY a.id"
        return sql + (f" LIMIT {rng.randrange(1, 90)}" if rng.random() < 0.5 else ""), {3}, True

    def distinct(self):
        keys = ", ".join(sorted({self.key() for _ in range(2)}))
        return f"SELECT DISTINCT {keys} FROM all_tasks a{self.where()}", (), False

    def documents(self):
        """Members of JSON documents."""
        rng = self.rng
        key = rng.choice(
            [
                "(a.payload ->> '$.s')",
                "CAST(json_extract(a.payload, '$.n') AS BIGINT)",
                "json_array_length(a.payload, '$.list')",
                "json_valid(coalesce(a.payload, ''))",
                "(a.payload ->> '$.deep.er')",
            ]
        )
        measures, close = self.measures(2, 1)
        end, ordered = self.end([key])
        sql = f"SELECT {key}, {measures} FROM all_tasks a{self.where()} GROUP BY {key}{end}"
        return sql, close, ordered

    def loose(self):
        """A column with integers and text: a UNION in DuckDB."""
        measures, close = self.measures(2, 3)
        if self.rng.random() < 0.3:
            columns = "count(a.loose), count(DISTINCT a.loose)"
            return f"SELECT {columns} FROM all_tasks a{self.where()}", (), True
        few = f"a.loose IS {self.rng.choice(['', 'NOT '])}NULL OR {self.term()}"
        sql = f"SELECT a.loose, a.kind, count(*), {measures} FROM all_tasks a WHERE {few}"
        return f"{sql} GROUP BY a.loose, a.kind", close, False

    def derived(self):
        """Aggregates of aggregates, and a join with them."""
        key = self.rng.choice(["status", "due", "kind", "owner_id"])
        inner = (
            f"SELECT a.{key} AS k, count(*) AS n, sum(a.cost) AS s FROM all_tasks a{self.where()}"
        )
        if self.rng.random() < 0.5:
            sql = f"SELECT max(d.n), min(d.n), sum(d.n), count(d.k), max(d.s) FROM ({inner}"
            return f"{sql} GROUP BY a.{key}) AS d WHERE d.n > 1", (), True
        sql = f"SELECT b.id, d.n, d.s FROM all_tasks b JOIN ({inner} GROUP BY a.{key}) AS d"
        return f"{sql} ON d.k = b.{key} WHERE b.id % 9 = 4 AND {self.term('b')}", (), False
