import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { afterEach, expect, it } from "vitest";
import { HttpClient, NoAnswer } from "./http-client.ts";

const servers: Server[] = [];
const clients: HttpClient[] = [];
const serve = async (listener: RequestListener): Promise<string> => {
  const server = createServer(listener).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
};
/** Where nobody listens. */
const nobody = async (): Promise<string> => {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
};
const client = (addresses: readonly string[], timeout = 10_000) => {
  const made = new HttpClient({ servers: addresses, timeout });
  clients.push(made);
  return made;
};
const answers =
  (text: string): RequestListener =>
  (_request, response) =>
    void response.end(text);
const noAnswer = async (call: Promise<unknown>): Promise<NoAnswer> => {
  const error: unknown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof NoAnswer)) throw new Error(`no NoAnswer but ${String(error)}`);
  return error;
};

afterEach(async () => {
  for (const made of clients.splice(0)) made.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
});

it("asks the next server where one cannot be reached, and stays there", async () => {
  const [away, here] = [await nobody(), await serve(answers("here"))];
  const http = client([away, here]);
  expect(await http.request({ method: "POST", path: "/", body: "{}" })).toMatchObject({ body: "here", server: here });
  expect(http.server).toBe(here);
});

it("says what was not sent, and where", async () => {
  const away = await nobody();
  const { sent, server, reason } = await noAnswer(client([away]).request({ method: "PUT", path: "/" }));
  expect({ sent, server, reason }).toEqual({ sent: false, server: away, reason: `connect ECONNREFUSED ${away}` });
});

it("repeats only what may be repeated when an answer gets lost", async () => {
  let writes = 0;
  const cuts = await serve((request) => {
    writes++;
    request.socket.destroy();
  });
  const here = await serve(answers("here"));
  const lost = await noAnswer(client([cuts, here]).request({ method: "PUT", path: "/", body: "1" }));
  expect(lost).toMatchObject({ sent: true, server: cuts });
  expect(writes).toBe(1);
  for (const request of [
    { method: "GET", path: "/" },
    { method: "POST", path: "/", repeatable: true },
  ] as const) {
    expect((await client([cuts, here]).request(request)).body).toBe("here");
  }
});

it("leaves time for the others where one hangs", async () => {
  const hangs = await serve(() => undefined);
  const here = await serve(answers("here"));
  expect((await client([hangs, here], 2_000).request({ method: "GET", path: "/" })).body).toBe("here");
});

it("ends a request whose answer does not come, or not to its end", async () => {
  const hangs = await serve(() => undefined);
  expect((await noAnswer(client([hangs], 50).request({ method: "GET", path: "/" }))).reason).toMatch(
    /^no answer within/,
  );
  const stops = await serve((_request, response) => void response.write("half"));
  const lost = await noAnswer(client([stops], 200).request({ method: "GET", path: "/" }));
  expect(lost).toMatchObject({ sent: true, reason: expect.stringMatching(/^no answer within/) });
});

it("asks one server only where it is told to", async () => {
  const [away, here] = [await nobody(), await serve(answers("here"))];
  const http = client([here, away]);
  expect(await noAnswer(http.request({ method: "GET", path: "/", server: away }))).toMatchObject({ server: away });
  expect(http.server).toBe(here);
});

it("gives up when the caller does", async () => {
  const hangs = await serve(() => undefined);
  const abort = new AbortController();
  const call = client([hangs]).request({ method: "GET", path: "/", signal: abort.signal });
  abort.abort(new Error("enough"));
  await expect(call).rejects.toThrow("enough");
});

it("opens a stream that outlasts the request's time", async () => {
  const abort = new AbortController();
  const slow = await serve((_request, response) => {
    response.write("first\n");
    abort.signal.addEventListener("abort", () => response.end("last\n"));
  });
  const { stream } = await client([slow], 100).open({ method: "GET", path: "/" });
  const late = new Promise((resolve) => setTimeout(resolve, 200));
  let text = "";
  void late.then(() => abort.abort());
  for await (const chunk of stream) text += String(chunk);
  expect(text).toBe("first\nlast\n");
});
