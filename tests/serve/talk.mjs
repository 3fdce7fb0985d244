// Talks to a server with one of the TypeScript SDKs: node talk.mjs SDK URL|- [COMMAND ARGUMENTS...]; prints what it found.
const [sdk, url, command, ...args] = process.argv.slice(2);

async function parts() {
  if (sdk === "legacy") {
    const base = "@modelcontextprotocol/sdk/client";
    const [{ Client }, { StdioClientTransport }, { StreamableHTTPClientTransport }] = await Promise.all([
      import(`${base}/index.js`), import(`${base}/stdio.js`), import(`${base}/streamableHttp.js`),
    ]);
    return [new Client({ name: "talk", version: "1" }), StdioClientTransport, StreamableHTTPClientTransport];
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const options = { versionNegotiation: { mode: { pin: "2026-07-28" } } };
  return [new Client({ name: "talk", version: "1" }, options), StdioClientTransport, StreamableHTTPClientTransport];
}

const [client, Stdio, Http] = await parts();
await client.connect(url === "-" ? new Stdio({ command, args }) : new Http(new URL(url)));
const { tools } = await client.listTools();
const when = { since: "2026-11-18", before: "2026-11-19" };
const answer = await client.callTool({ name: "audit_events", arguments: { ...when, limit: 3 } });
const refused = await client.callTool({ name: "audit_events", arguments: { sinc: "1h" } });
const { prompts } = await client.listPrompts();
const prompt = await client.getPrompt({ name: "suspicious_changes", arguments: { when: "yesterday lunch" } });
const schema = await client.readResource({ uri: "cfaudit://schema" });
console.log(JSON.stringify({
  tools: tools.map((one) => one.name),
  state: answer.structuredContent.coverage.state,
  events: answer.structuredContent.events.length,
  refused: refused.isError === true && refused.content[0].text,
  prompts: prompts.length,
  prompt: prompt.messages[0].content.text,
  columns: JSON.parse(schema.contents[0].text).columns.length,
}));
await client.close();
process.exit(0);
