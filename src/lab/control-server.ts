import { createServer, type Server } from "node:net";
import * as z from "zod";
import { errorData, type LabRequest, messageLimit } from "./control.ts";

/** The supervisor's side of control.ts. Apart from it, so that callers do not load the schema. */

const signal = z.enum(["TERM", "KILL"]);
const name = z.string().max(32);

const requestSchema: z.ZodType<LabRequest> = z.discriminatedUnion("do", [
  z.strictObject({ do: z.literal("state") }),
  z.strictObject({ do: z.literal("stop"), host: name, signal }),
  z.strictObject({ do: z.literal("start"), host: name }),
  z.strictObject({ do: z.literal("reboot"), host: name, fresh: z.boolean() }),
  z.strictObject({ do: z.literal("partition"), from: z.array(name), to: z.array(name) }),
  z.strictObject({ do: z.literal("heal") }),
  z.strictObject({ do: z.literal("stop-store") }),
  z.strictObject({ do: z.literal("start-store") }),
  z.strictObject({ do: z.literal("down") }),
]);

/** Answers requests. @param handle its result becomes the answer */
export const serveControl = (path: string, handle: (request: LabRequest) => Promise<unknown>): Promise<Server> => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let text = "";
    let asked = false;
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      text += chunk.toString();
      if (text.length > messageLimit) return socket.destroy();
      if (asked || !text.includes("\n")) return;
      asked = true;
      const line = text.slice(0, text.indexOf("\n"));
      void answer(line, handle).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
    });
    socket.on("end", () => {
      if (!asked) socket.destroy();
    });
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(path, () => resolve(server));
  });
};

const answer = async (line: string, handle: (request: LabRequest) => Promise<unknown>): Promise<unknown> => {
  try {
    return { result: await handle(requestSchema.parse(JSON.parse(line))) };
  } catch (error) {
    return { error: errorData(error) };
  }
};
