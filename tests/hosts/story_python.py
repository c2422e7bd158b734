"""Tells the story in Python's sqlite3: story_python.py LIBRARY DATABASE STORY, outcomes as JSON."""

import json
import sqlite3
import sys


def connect(library, database):
    connection = sqlite3.connect(database, isolation_level=None)
    connection.enable_load_extension(True)
    connection.load_extension(library)
    return connection


def tell(library, database, steps):
    connection = connect(library, database)
    for step in steps:
        if step.get("reopen"):
            connection.close()
            connection = connect(library, database)
            yield {"reopen": True}
            continue
        try:
            yield {"rows": connection.execute(step["sql"]).fetchall()}
        except sqlite3.Error as error:
            yield {"error": str(error)}
    connection.close()


if __name__ == "__main__":
    library, database, story = sys.argv[1:]
    with open(story, encoding="utf-8") as file:
        print(json.dumps(list(tell(library, database, json.load(file)))))
