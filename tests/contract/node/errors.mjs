// Makes every kind of mistake and prints what was thrown; the prompts in brackets are those that the test set faults for.
// OPENAI_BASE_URL and OPENAI_API_KEY say where and with which key.
import OpenAI, { toFile } from "openai";

const client = new OpenAI(); // with its usual two retries
const stranger = new OpenAI({ apiKey: `${process.env.OPENAI_API_KEY.slice(0, -1)}!` });
const generate = (asked) => () => client.images.generate({ prompt: "node mistake", size: "512x512", ...asked });
const picture = () => toFile(Buffer.alloc(8_000_000), "picture.png", { type: "image/png" });

const mistakes = {
  wrongKey: () => stranger.images.generate({ prompt: "node mistake" }),
  missingKey: () => client.images.generate({ prompt: "node mistake" }, { headers: { Authorization: null } }),
  emptyPrompt: generate({ prompt: "" }),
  longPrompt: generate({ prompt: "x".repeat(1001) }),
  noPictures: generate({ n: 0 }),
  tooManyPictures: generate({ n: 11 }),
  wrongType: generate({ n: "3" }),
  badSize: generate({ size: "huge" }),
  badQuality: generate({ quality: "ultra" }),
  transparent: generate({ background: "transparent" }),
  unwatermarked: generate({ watermark_enabled: false }),
  strict: () =>
    client.images.generate({ prompt: "node mistake", style: "vivid" }, { headers: { Prefer: "handling=strict" } }),
  unknownModel: generate({ model: "stable-diffusion" }),
  unknownModelRetrieved: () => client.models.retrieve("org/model:x y"),
  edit: async () => client.images.edit({ image: await picture(), prompt: "a hat on it" }),
  variation: async () => client.images.createVariation({ image: await picture() }),
  refused: generate({ prompt: "[refused]" }),
  refusedStream: generate({ prompt: "[refused]", stream: true }),
  cut: generate({ prompt: "[cut]" }),
  noBalance: generate({ prompt: "[no balance]" }), // the last one: its account is left alone afterwards
};

const thrown = {};
for (const [name, mistake] of Object.entries(mistakes)) {
  try {
    await mistake();
    thrown[name] = null;
  } catch (failure) {
    const { status, type, code, param, requestID, message, error } = failure;
    thrown[name] = { class: failure.constructor.name, status, type, code, param, requestID, message, error };
  }
}
console.log(JSON.stringify(thrown));
