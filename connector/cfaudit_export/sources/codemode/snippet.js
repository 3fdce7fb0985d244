// Reads pages of one account's audit log, or of the list of accounts, and can do nothing else: the address is fixed but
// for the account's id, the method is GET, no redirect is followed, and all that is asked arrives as JSON in the one
// place below.
// Answers with a line of JSON, then the bodies of the pages as they came. Sizes are in bytes of UTF-8.
async () => {
  const ask = PARAMETERS;
  const head = {
    v: 1, account: null, status: null, retryAfter: null, ratelimit: null, ray: null, bytes: 0, pages: [], err: null,
    left: null,
  };
  const bodies = [];
  const fail = (kind, text) => { head.err = { kind, text: String(text).slice(0, 1000) }; };
  const text = (value) => (typeof value === "string" ? value : null);
  const behind = (page) => page.result_info?.cursor || page.result_info?.cursors?.after || null;
  const parse = (body) => { try { return JSON.parse(body); } catch { return null; } };
  try {
    let address = "https://api.cloudflare.com/client/v4/accounts";
    if (!ask.listing) {
      head.account = ask.account ?? accountId;
      if (!/^[0-9a-f]{32}$/.test(head.account)) throw new Error("not an account id");
      address += `/${head.account}/logs/audit`;
    }
    let cursor = ask.cursor;
    while (head.err === null && head.pages.length < ask.pages) {
      const query = new URLSearchParams(ask.query);
      if (cursor) query.set("cursor", cursor);
      const reply = await fetch(`${address}?${query}`, { method: "GET", redirect: "manual" });
      head.status = reply.status;
      head.retryAfter = reply.headers.get("retry-after");
      head.ratelimit = reply.headers.get("ratelimit");
      head.ray = reply.headers.get("cf-ray");
      const data = await reply.arrayBuffer();
      if (reply.status !== 200) {
        fail("status", new TextDecoder().decode(data));
      } else if (head.bytes + data.byteLength > ask.most) {
        fail("size", data.byteLength);
        const page = head.pages.length === 0 ? parse(new TextDecoder().decode(data)) : null;
        if (Array.isArray(page?.result) && page.result.length === 1) { // nothing smaller can be asked for
          const [record] = page.result;
          head.left = { id: text(record?.id), time: text(record?.action?.time), cursor: behind(page) };
        }
      } else {
        const body = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
        const page = parse(body);
        if (page === null || page.success === false || !Array.isArray(page.result ?? [])) {
          fail("body", "the reply is no page");
        } else {
          cursor = behind(page);
          head.bytes += data.byteLength;
          head.pages.push([data.byteLength, cursor]);
          bodies.push(body);
          if (cursor === null) break;
        }
      }
    }
  } catch (error) {
    fail("thrown", error);
  }
  return JSON.stringify(head) + "\n" + bodies.join("");
}
