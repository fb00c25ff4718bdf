// Asks for pictures in every way and prints what came: digests of bytes, addresses and the words around them.
// OPENAI_BASE_URL and OPENAI_API_KEY say where and with which key.
import { createHash } from "node:crypto";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const size = "512x512";
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
const digestOf = (item) => digest(Buffer.from(item.b64_json, "base64"));

const inline = await client.images.generate({ prompt: "node inline", size, response_format: "b64_json" });

const linked = await client.images.generate({ prompt: "node linked", size, response_format: "url" });
const download = await fetch(linked.data[0].url);

const defaults = {};
for (const model of ["dall-e-3", "gpt-image-1", "glm-image"]) {
  const answer = await client.images.generate({ prompt: "node defaults", size, model });
  defaults[model] = answer.data.map(Object.keys);
}

const three = await client.images.generate({ prompt: "node three", size, n: 3 });

const events = [];
for await (const event of await client.images.generate({ prompt: "node stream", size, n: 2, stream: true })) {
  const { b64_json, ...about } = event;
  events.push({ ...about, digest: digestOf(event) });
}

const { response } = await client.images
  .generate({ prompt: "node headers", size: "1920x1080", quality: "low", style: "vivid" })
  .withResponse();

const models = [];
for await (const model of client.models.list()) models.push(model);

const { data, ...about } = inline;
console.log(
  JSON.stringify({
    inline: { keys: Object.keys(data[0]), digest: digestOf(data[0]), about, requestId: inline._request_id },
    linked: {
      keys: Object.keys(linked.data[0]),
      url: linked.data[0].url,
      digest: digest(Buffer.from(await download.arrayBuffer())),
    },
    defaults,
    three: three.data.map(digestOf),
    events,
    headers: Object.fromEntries(response.headers),
    models,
    model: await client.models.retrieve("dall-e-3"),
  }),
);
