// Administers an organization in every way, lists page by page, and prints what came.
// OPENAI_BASE_URL and OPENAI_ADMIN_KEY say where and with which key; USAGE_SINCE is a time in Unix seconds.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const { organization } = client.admin;
const { adminAPIKeys, auditLogs, projects, spendLimit, usage } = organization;
const { apiKeys, modelPermissions, rateLimits, serviceAccounts } = projects;
const name = (word) => `node ${word} ${crypto.randomUUID()}`;
const three = [1, 2, 3];

async function ids(list) {
  const found = [];
  for await (const item of list) found.push(item.id);
  return found;
}

async function thrown(asked) {
  try {
    return await asked();
  } catch (failure) {
    return { class: failure.constructor.name, status: failure.status, code: failure.code, param: failure.param };
  }
}

async function pages(read, asked) {
  const found = [];
  for (let page; page !== null; ) {
    const answer = await read({ ...asked, page });
    found.push(answer.data);
    page = answer.next_page;
  }
  return found;
}

const printed = {};

const adminKeys = [];
for (const _ of three) adminKeys.push(await adminAPIKeys.create({ name: name("admin"), expires_in_seconds: 600 }));
const ofAdmin = adminKeys.map((key) => key.id);
printed.adminKeys = {
  made: ofAdmin,
  secret: adminKeys[0].value,
  listed: await ids(adminAPIKeys.list({ limit: 1, after: ofAdmin[0] })),
  backwards: (await ids(adminAPIKeys.list({ limit: 2, order: "desc" }))).slice(0, 3),
  retrieved: await adminAPIKeys.retrieve(ofAdmin[1]),
  deleted: [],
};
for (const id of ofAdmin) printed.adminKeys.deleted.push(await adminAPIKeys.delete(id));

const made = [];
for (const _ of three) made.push(await projects.create({ name: name("project") }));
const project_id = made[0].id;
printed.projects = {
  made: made.map((project) => project.id),
  listed: await ids(projects.list({ limit: 1, after: project_id })),
  renamed: await projects.update(project_id, { name: name("renamed") }),
  retrieved: await projects.retrieve(project_id),
  archived: await projects.archive(made[1].id),
  withArchived: await ids(projects.list({ limit: 1, after: project_id, include_archived: true })),
  withoutArchived: await ids(projects.list({ limit: 1, after: project_id })),
};

const accounts = [];
for (const _ of three) accounts.push(await serviceAccounts.create(project_id, { name: name("account") }));
const account = accounts[0].id;
printed.serviceAccounts = {
  made: accounts.map((one) => one.id),
  created: accounts[0],
  listed: await ids(serviceAccounts.list(project_id, { limit: 1 })),
  renamed: await serviceAccounts.update(account, { project_id, name: name("renamed") }),
  retrieved: await serviceAccounts.retrieve(account, { project_id }),
  deleted: await serviceAccounts.delete(accounts[2].id, { project_id }),
};

const further = await serviceAccounts.apiKeys.create(account, { project_id, name: name("further") });
printed.apiKeys = {
  further,
  owner: (await apiKeys.retrieve(further.id, { project_id })).owner,
  listed: await ids(apiKeys.list(project_id, { limit: 1 })),
  updated: await apiKeys.update(account, { project_id, expires_in_seconds: 3600 }),
  retrieved: await apiKeys.retrieve(account, { project_id }),
  deleted: await apiKeys.delete(accounts[1].id, { project_id }),
  left: await ids(apiKeys.list(project_id, { limit: 1 })),
};

const listed = await ids(rateLimits.listRateLimits(project_id));
printed.rateLimits = {
  listed,
  paged: await ids(rateLimits.listRateLimits(project_id, { limit: 1 })),
  before: await ids(rateLimits.listRateLimits(project_id, { limit: 1, before: listed[1] })),
  updated: await rateLimits.updateRateLimit(listed[1], { project_id, max_images_per_1_minute: 7 }),
  first: (await rateLimits.listRateLimits(project_id, { limit: 1 })).data[0],
};

const month = { currency: "CNY", interval: "month", threshold_amount: 1234 };
printed.spendLimit = {
  updated: await projects.spendLimit.update(project_id, month),
  retrieved: await projects.spendLimit.retrieve(project_id),
  deleted: await projects.spendLimit.delete(project_id),
  gone: await thrown(() => projects.spendLimit.retrieve(project_id)),
  otherCurrency: await thrown(() => projects.spendLimit.update(project_id, { ...month, currency: "USD" })),
  overAll: await thrown(() => spendLimit.update(month)),
};

printed.modelPermissions = {
  updated: await modelPermissions.update(project_id, { mode: "allow_list", model_ids: ["cogview-4"] }),
  retrieved: await modelPermissions.retrieve(project_id),
  deleted: await modelPermissions.delete(project_id),
};

const asked = { start_time: Number(process.env.USAGE_SINCE), bucket_width: "1d", limit: 1 };
printed.usage = {
  images: await pages((query) => usage.images(query), { ...asked, group_by: ["project_id", "size"] }),
  costs: await pages((query) => usage.costs(query), { ...asked, group_by: ["project_id", "line_item"] }),
};

const since = { gte: printed.projects.retrieved.created_at };
printed.auditLogs = {
  all: (await auditLogs.list({ project_ids: [project_id], effective_at: since, limit: 100 })).data,
  paged: await ids(auditLogs.list({ project_ids: [project_id], effective_at: since, limit: 2 })),
  ofKinds: await ids(auditLogs.list({ project_ids: [project_id], event_types: ["project.created", "project.updated"] })),
};

console.log(JSON.stringify(printed));
