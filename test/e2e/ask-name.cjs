// Asks the resolver of the sandbox it runs in for names: for each line of the input, a name, a question every millisecond until one
// is answered with an address. Prints "asking" after the first that is not; then, in the end, when the last question was sent that was
// answered without an address, in nanoseconds of the machine's monotonic clock.
const dgram = require("node:dgram");
const { createInterface } = require("node:readline");
const socket = dgram.createSocket("udp4");
const query = (id, name) => {
  const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
  // RFC 1035 4.1: recursion desired, one question, type A, class IN.
  return Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
};
let found = () => undefined;
socket.on("message", (reply) => found(reply));
const ask = (name) =>
  new Promise((resolve) => {
    const sent = new Map();
    let missed = 0n;
    let id = 0;
    const timer = setInterval(() => {
      sent.set(++id, process.hrtime.bigint());
      socket.send(query(id, name), 53, "127.0.0.11");
    }, 1);
    found = (reply) => {
      const at = sent.get(reply.readUInt16BE(0)) ?? 0n;
      if (reply.readUInt16BE(6) > 0) {
        clearInterval(timer);
        found = () => undefined;
        return resolve(missed);
      }
      if (missed === 0n) console.log("asking");
      if (at > missed) missed = at;
    };
  });
(async () => {
  for await (const name of createInterface({ input: process.stdin })) console.log(String(await ask(name)));
  socket.close();
})();
