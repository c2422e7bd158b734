// Tells the story in better-sqlite3: story.js LIBRARY DATABASE STORY, outcomes as JSON.
"use strict";

const fs = require("node:fs");
const Database = require("better-sqlite3");

function connect(library, database) {
  return new Database(database).loadExtension(library);
}

function run(connection, sql) {
  const statement = connection.prepare(sql);
  if (statement.reader) {
    return statement.raw().all();
  }
  statement.run();
  return [];
}

function tell(library, database, steps) {
  let connection = connect(library, database);
  const outcomes = steps.map((step) => {
    if (step.reopen) {
      connection.close();
      connection = connect(library, database);
      return { reopen: true };
    }
    try {
      return { rows: run(connection, step.sql) };
    } catch (error) {
      return { error: error.message };
    }
  });
  connection.close();
  return outcomes;
}

const [library, database, story] = process.argv.slice(2);
const steps = JSON.parse(fs.readFileSync(story, "utf8"));
console.log(JSON.stringify(tell(library, database, steps)));
