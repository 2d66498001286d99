// Runs in a sandbox: asks 127.0.0.11 for a name every 5 ms for some seconds, and prints how many milliseconds each answer took, as JSON.
//   node dns-probe.cjs NAME SECONDS
const { createSocket } = require("node:dgram");
const [name = "", seconds = "4"] = process.argv.slice(2);
const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
// Header: recursion desired, one question; then the name, type A, class IN.
const query = Buffer.concat([
  Buffer.from("000001000001000000000000", "hex"),
  ...labels,
  Buffer.from("0000010001", "hex"),
]);
const sent = new Map();
const took = [];
const socket = createSocket("udp4");
socket.on("message", (answer) => {
  const id = answer.readUInt16BE(0);
  took.push(performance.now() - (sent.get(id) ?? Number.NaN));
  sent.delete(id);
});
socket.connect(53, "127.0.0.11", () => {
  let id = 0;
  const timer = setInterval(() => {
    query.writeUInt16BE(++id, 0);
    sent.set(id, performance.now());
    socket.send(query);
  }, 5);
  setTimeout(() => clearInterval(timer), Number(seconds) * 1000);
  setTimeout(
    () => {
      socket.close();
      console.log(JSON.stringify({ took, lost: sent.size }));
    },
    Number(seconds) * 1000 + 1000,
  );
});
