// Sends or receives UDP datagrams in the namespace it is started in.
//   send ADDRESS PORT SOURCE HEX          one datagram
//   spray PREFIX PORT SOURCE              one to each of PREFIX.0.1 to PREFIX.11.250
//   listen GROUP PORT INTERFACE-ADDRESS   prints "ready", then each datagram's bytes in hex, one a line
const dgram = require("node:dgram");
const [what, address, port, local, hex] = process.argv.slice(2);
const socket = dgram.createSocket({ type: address.includes(":") ? "udp6" : "udp4", reuseAddr: true });
if (what === "send") {
  socket.bind(0, local, () => {
    if (/^(22[4-9]|23\d)\./.test(address)) socket.setMulticastInterface(local);
    else if (address === "255.255.255.255" || address.endsWith(".255")) socket.setBroadcast(true);
    socket.send(Buffer.from(hex, "hex"), Number(port), address, () => socket.close());
  });
} else if (what === "spray") {
  socket.bind(0, local, async () => {
    for (let third = 0; third < 12; third++) {
      const each = Array.from({ length: 250 }, (_, n) => `${address}.${third}.${n + 1}`);
      await Promise.all(each.map((to) => new Promise((resolve) => socket.send("x", Number(port), to, resolve))));
    }
    socket.close();
  });
} else {
  socket.on("message", (bytes) => console.log(bytes.toString("hex")));
  socket.bind(Number(port), () => {
    if (/^(22[4-9]|23\d)\./.test(address)) socket.addMembership(address, local);
    console.log("ready");
  });
}
