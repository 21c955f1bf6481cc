// Asks an OpenAI-compatible server with OpenAI's own client for Node: node ask.mjs URL MODEL < permissions, one a line
//
// Prints the same JSON object as ask.py. The client is found in the folder that OML_NODE_CLIENTS names.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const folder = resolve(process.env.OML_NODE_CLIENTS ?? ".");
const { OpenAI } = createRequire(join(folder, "package.json"))("openai");
// The package does not export its own description, so it is read as a file.
const { version } = JSON.parse(readFileSync(join(folder, "node_modules/openai/package.json"), "utf8"));

const [url, model] = process.argv.slice(2);
const tokens = readFileSync(0, "utf8").split("\n").map((line) => line.trim()).filter(Boolean);
const client = new OpenAI({ baseURL: url, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const permitted = (token) => ({ headers: { "OML-Permission": token } });

const { data: chat, response } = await client.chat.completions
  .create({ model, messages, temperature: 0, max_tokens: 24 }, permitted(tokens[0]))
  .withResponse();
const stream = await client.chat.completions.create(
  { model, messages, temperature: 0, max_tokens: 24, stream: true, stream_options: { include_usage: true } },
  permitted(tokens[1]),
);
let streamed = "";
let counts = null;
for await (const part of stream) {
  counts = part.usage ?? counts;
  for (const choice of part.choices) streamed += choice.delta.content ?? "";
}
const text = await client.completions.create(
  { model, prompt: "The capital of France is", temperature: 0, max_tokens: 8 },
  permitted(tokens[2]),
);

async function refusal(options) {
  try {
    await client.chat.completions.create({ model, messages }, options);
  } catch (error) {
    return [error.status, error.code];
  }
  return [200, null];
}

const models = [];
for await (const served of client.models.list()) models.push(served.id);

console.log(JSON.stringify({
  models, chat: chat.choices[0].message.content, receipt: response.headers.get("oml-receipt"),
  finish: chat.choices[0].finish_reason, tokens: chat.usage.completion_tokens,
  streamed, streamed_tokens: counts?.completion_tokens ?? null, text: text.choices[0].text,
  used: await refusal(permitted(tokens[0])), none: await refusal({}), version,
}));
