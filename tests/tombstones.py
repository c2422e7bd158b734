"""The rows of cold files that do not count, as the catalog has them: Roaring bitmaps in their portable
format (github.com/RoaringBitmap/RoaringFormatSpec), one for each 65,536 rows of a file."""

import struct

CHUNK = 1 << 16


def decode(blob):
    """The numbers in a bitmap."""
    (cookie,) = struct.unpack_from("<I", blob)
    if cookie & 0xFFFF == 12347:
        size = (cookie >> 16) + 1
        flags = 4 + (size + 7) // 8
        runs = [blob[4 + n // 8] >> n % 8 & 1 for n in range(size)]
        place = flags + 4 * size + (4 * size if size >= 4 else 0)
    else:
        (size,) = struct.unpack_from("<I", blob, 4)
        flags, runs, place = 8, [0] * size, 8 + 8 * size
    rows = []
    for number, is_run in enumerate(runs):
        key, count = struct.unpack_from("<HH", blob, flags + 4 * number)
        count += 1
        if is_run:
            (pairs,) = struct.unpack_from("<H", blob, place)
            values = struct.unpack_from(f"<{2 * pairs}H", blob, place + 2)
            ends = zip(values[::2], values[1::2])
            low = [row for first, more in ends for row in range(first, first + more + 1)]
            place += 2 + 4 * pairs
        elif count <= 4096:
            low = struct.unpack_from(f"<{count}H", blob, place)
            place += 2 * count
        else:
            bits = int.from_bytes(blob[place : place + 8192], "little")
            low = [row for row in range(CHUNK) if bits >> row & 1]
            place += 8192
        assert len(low) == count
        rows += [key * CHUNK + row for row in low]
    assert place == len(blob)
    return rows


def encode(rows):
    """A bitmap of at most 4,096 numbers that have one chunk."""
    rows = sorted(rows)
    (key,) = {row // CHUNK for row in rows}
    head = struct.pack("<IIHHI", 12346, 1, key, len(rows) - 1, 16)
    return head + struct.pack(f"<{len(rows)}H", *(row % CHUNK for row in rows))


def buried(connection, file):
    """The rows of a file that do not count."""
    sql = "SELECT chunk, rows FROM _archive_tombstone WHERE file_id = ? ORDER BY chunk"
    rows = []
    for chunk, blob in connection.execute(sql, (file,)):
        found = decode(blob)
        assert found and {row // CHUNK for row in found} == {chunk}
        rows += found
    (dead,) = connection.execute("SELECT dead FROM _archive_file WHERE id = ?", (file,)).fetchone()
    assert dead == len(rows)
    return rows


def write(connection, file, rows):
    """Makes these rows of a file, and no others, those that do not count."""
    connection.execute("DELETE FROM _archive_tombstone WHERE file_id = ?", (file,))
    for chunk in sorted({row // CHUNK for row in rows}):
        blob = encode(row for row in rows if row // CHUNK == chunk)
        connection.execute("INSERT INTO _archive_tombstone VALUES (?, ?, ?)", (file, chunk, blob))
    connection.execute("UPDATE _archive_file SET dead = ? WHERE id = ?", (len(rows), file))


def bury(connection, file, rows):
    """Buries rows of a file that have counted so far."""
    before = buried(connection, file)
    assert not set(before) & set(rows)
    write(connection, file, [*before, *rows])


def total(connection):
    """How many rows of all files do not count."""
    files = connection.execute("SELECT id FROM _archive_file").fetchall()
    return sum(len(buried(connection, file)) for (file,) in files)
