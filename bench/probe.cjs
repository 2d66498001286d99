// Runs in a sandbox: for every line `ADDRESS` on standard input, says how many milliseconds it took until a host answered there.
const { connect } = require("node:net");
const { createInterface } = require("node:readline");
createInterface({ input: process.stdin }).on("line", (host) => {
  const began = performance.now();
  const end = began + 10_000;
  const attempt = () => {
    // Nobody listens: a refusal is the answer of the other network stack.
    const socket = connect({ host, port: 9 });
    const done = (error) => {
      socket.destroy();
      if (error?.code !== "ECONNREFUSED" && performance.now() < end) return setTimeout(attempt, 1);
      console.log(error?.code === "ECONNREFUSED" ? String(performance.now() - began) : "never");
    };
    socket.once("error", done);
    socket.once("connect", () => done({ code: "ECONNREFUSED" }));
  };
  attempt();
});
console.log("ready");
